// Are two photos of the same person? And who is in the second? By grpc-web, from a browser.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { FaceService, VerifyDecision } from "./stubs/facematch/v1/face_service_pb.js";
import { IdentifyDecision, MatchService } from "./stubs/facematch/v1/match_service_pb.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./stubs/google/rpc/error_details_pb.js";

const form = document.querySelector("form")!;
const output = document.querySelector("output")!;
const field = (name: string) => form.elements.namedItem(name) as HTMLInputElement;
field("url").value = location.origin.startsWith("http") ? location.origin : "http://127.0.0.1:50051";

/** Sends a call that reads again: where it was refused for want of room, after the delay that the server asks for. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
        try {
            return await call();
        } catch (caught) {
            const error = ConnectError.from(caught);
            const isTransient = error.code === Code.ResourceExhausted || error.code === Code.Unavailable;
            if (attempt === 6 || !isTransient) throw error;
            const asked = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
            const askedMs = asked ? Number(asked.seconds) * 1000 + asked.nanos / 1e6 : 0;
            const backoffMs = 100 * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
            await new Promise((resolve) => setTimeout(resolve, askedMs + backoffMs));
        }
    }
}

async function photo(name: string) {
    const file = field(name).files![0];
    return { data: new Uint8Array(await file.arrayBuffer()) };
}

async function ask(): Promise<string> {
    const [url, key, galleryId] = ["url", "key", "gallery"].map((name) => field(name).value);
    const authorize: Interceptor = (next) => (request) => {
        if (key) request.header.set("authorization", `Bearer ${key}`);
        return next(request);
    };
    const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [authorize], defaultTimeoutMs: 10_000 });
    const [a, b] = await Promise.all([photo("a"), photo("b")]);
    const verified = await patiently(() =>
        createClient(FaceService, transport).verify({
            a: { side: { case: "photo", value: a } },
            b: { side: { case: "photo", value: b } },
        }),
    );
    const decision = VerifyDecision[verified.decision].replace("_", " ");
    const said = `${decision}, score ${verified.score.toFixed(4)}, threshold ${verified.threshold?.cosine.toFixed(4)}`;
    if (!galleryId) return said;
    const found = await patiently(() =>
        createClient(MatchService, transport).identify({ galleryId, probe: { probe: { case: "photo", value: b } }, topK: 1 }),
    );
    const best = found.decision === IdentifyDecision.MATCH ? found.candidates[0] : undefined;
    return `${said}\n${best ? `It is ${best.identityId}` : IdentifyDecision[found.decision].replace("_", " ")}`;
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    output.textContent = "Asking …";
    try {
        output.textContent = await ask();
    } catch (caught) {
        const error = ConnectError.from(caught);
        const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[error.code];
        output.textContent = `${error.rawMessage} (${reason})`;
    }
});
