// Are two photos of the same person? And who is the second? Usage: node dist/main.mjs URL GALLERY PHOTO PHOTO
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { FaceService, VerifyDecision } from "./stubs/facematch/v1/face_service_pb.js";
import { IdentifyDecision, MatchService } from "./stubs/facematch/v1/match_service_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./stubs/google/rpc/error_details_pb.js";

const [url, galleryId, pathA, pathB] = process.argv.slice(2);
if (!url || !galleryId || !pathA || !pathB) throw new Error("usage: main.mjs URL GALLERY PHOTO PHOTO");
const { FACEMATCH_KEY: key, FACEMATCH_CA: ca } = process.env;
const { FACEMATCH_CERTIFICATE: certificate, FACEMATCH_PRIVATE_KEY: privateKey } = process.env;
// A key in plain sight belongs to whoever listens.
if (key && !url.startsWith("https:") && !/^http:\/\/(localhost|127\.|\[::1\])/.test(url)) throw new Error("a key needs https:");

const authorize: Interceptor = (next) => (request) => {
    if (key) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
};
const transport = createGrpcTransport({
    baseUrl: url,
    interceptors: [authorize],
    defaultTimeoutMs: 10_000,
    pingIntervalMs: 30_000,
    nodeOptions: {
        ca: ca ? readFileSync(ca) : undefined,
        cert: certificate ? readFileSync(certificate) : undefined,
        key: privateKey ? readFileSync(privateKey) : undefined,
    },
});
const faces = createClient(FaceService, transport);
const matching = createClient(MatchService, transport);

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
            await sleep(askedMs + 100 * 2 ** (attempt - 1) * (0.5 + Math.random() / 2));
        }
    }
}

const photo = (path: string) => ({ data: new Uint8Array(readFileSync(path)) });

try {
    const verified = await patiently(() =>
        faces.verify({
            a: { side: { case: "photo", value: photo(pathA) } },
            b: { side: { case: "photo", value: photo(pathB) } },
        }),
    );
    const decision = VerifyDecision[verified.decision].replace("_", " ");
    console.log(`${decision}  score ${verified.score.toFixed(4)}, threshold ${verified.threshold?.cosine.toFixed(4)}`);

    const found = await patiently(() =>
        matching.identify({ galleryId, probe: { probe: { case: "photo", value: photo(pathB) } }, topK: 1 }),
    );
    const best = found.decision === IdentifyDecision.MATCH ? found.candidates[0] : undefined;
    console.log(best ? `MATCH  ${best.identityId}` : IdentifyDecision[found.decision].replace("_", " "));
} catch (caught) {
    const error = ConnectError.from(caught);
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[error.code];
    const fields = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations.map((at) => at.field));
    console.error(`${error.rawMessage} (${[reason, ...fields].join(", ")})`);
    process.exit(2);
}
