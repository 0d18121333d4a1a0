"""Opens a report in a real browser: light and dark, a desktop and a phone, and on paper."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

CONTRAST = """() => {
    const parse = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = color => {
        const [r, g, b] = parse(color).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
    const paper = getComputedStyle(document.body).backgroundColor;
    const found = [["text", getComputedStyle(document.body).color]];
    for (const figure of document.querySelectorAll("figure")) {
        for (const text of figure.querySelectorAll("svg text")) found.push([figure.id + " text", getComputedStyle(text).fill]);
        for (const line of figure.querySelectorAll("svg polyline"))
            if (line.getAttribute("stroke") !== "var(--grid)")
                found.push([figure.id + " line", getComputedStyle(line).stroke]);
    }
    return { paper, lightness: light(paper), ratios: found.map(([name, color]) => [name, ratio(color, paper), color]) };
}"""

page_path, figures, pictures = Path(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3])
complaints, fetched = [], []
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[4], args=["--no-sandbox"])
    for scheme in ("light", "dark"):
        for name, width in (("desktop", 1280), ("phone", 390)):
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: fetched.append(request.url))
            page.goto(page_path.as_uri())
            shown = page.eval_on_selector_all("figure", "all => all.map(one => [one.id, one.querySelector('svg').getBoundingClientRect().width])")
            assert [one for one, _ in shown] == figures, shown
            assert all(200 < svg_width <= width for _, svg_width in shown), shown
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name}: {overflow} px beyond the screen"
            found = page.evaluate(CONTRAST)
            assert (found["lightness"] > 0.5) == (scheme == "light"), found["paper"]
            assert len(found["ratios"]) > 10 * len(figures)
            for what, ratio, color in found["ratios"]:
                # WCAG 2.2: 4.5 for text, 3 for graphics.
                assert ratio >= (4.5 if "text" in what else 3), f"{scheme}: {what} {color} on {found['paper']}: {ratio:.2f}"
            page.screenshot(path=pictures / f"{name}-{scheme}.png", full_page=True)
            if scheme == "dark":
                page.emulate_media(media="print", color_scheme="dark")
                assert page.evaluate(CONTRAST)["lightness"] > 0.5, "paper is white"
            context.close()
    browser.close()
assert not complaints, complaints
outside = [url for url in fetched if not url.startswith(("file:", "data:"))]
assert not outside, outside
print(f"{len(figures)} figures readable in light and dark, on a desktop, a phone and paper; nothing fetched")
