package example;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import facematch.v1.FaceServiceGrpc;
import facematch.v1.FaceServiceOuterClass.VerifyRequest;
import facematch.v1.FaceServiceOuterClass.VerifyResponse;
import facematch.v1.FaceServiceOuterClass.VerifySide;
import facematch.v1.MatchServiceGrpc;
import facematch.v1.MatchServiceOuterClass.IdentifyDecision;
import facematch.v1.MatchServiceOuterClass.IdentifyRequest;
import facematch.v1.MatchServiceOuterClass.IdentifyResponse;
import facematch.v1.MatchServiceOuterClass.Probe;
import facematch.v1.Types.Photo;
import io.grpc.ChannelCredentials;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Are two photos of the same person? And who is the second? Usage: ADDRESS GALLERY PHOTO PHOTO. */
public final class Client {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 4) {
            System.err.println("usage: ADDRESS GALLERY PHOTO PHOTO");
            System.exit(2);
        }
        String key = System.getenv().getOrDefault("FACEMATCH_KEY", "");
        ChannelCredentials credentials = credentials(arguments[0], key);
        ManagedChannel channel =
                Grpc.newChannelBuilder(arguments[0], credentials)
                        // A machine that is gone says nothing: a quiet server is asked whether it is there.
                        .keepAliveTime(30, TimeUnit.SECONDS)
                        .intercept(MetadataUtils.newAttachHeadersInterceptor(authorization(key)))
                        .maxInboundMessageSize(64 << 20)
                        .build();
        try {
            ask(channel, arguments[1], photo(arguments[2]), photo(arguments[3]));
        } catch (StatusRuntimeException error) {
            System.err.println(explain(error));
            System.exit(2);
        } finally {
            channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
        }
    }

    private static void ask(ManagedChannel channel, String gallery, Photo a, Photo b) throws Exception {
        VerifyRequest pair =
                VerifyRequest.newBuilder()
                        .setA(VerifySide.newBuilder().setPhoto(a))
                        .setB(VerifySide.newBuilder().setPhoto(b))
                        .build();
        VerifyResponse verified =
                patiently(deadline -> FaceServiceGrpc.newBlockingStub(channel).withDeadline(deadline).verify(pair));
        System.out.printf(
                Locale.ROOT,
                "%s  score %.4f, threshold %.4f%n",
                words(verified.getDecision().name(), "VERIFY_DECISION_"),
                verified.getScore(),
                verified.getThreshold().getCosine());

        IdentifyRequest search =
                IdentifyRequest.newBuilder()
                        .setGalleryId(gallery)
                        .setProbe(Probe.newBuilder().setPhoto(b))
                        .setTopK(1)
                        .build();
        IdentifyResponse found =
                patiently(deadline -> MatchServiceGrpc.newBlockingStub(channel).withDeadline(deadline).identify(search));
        System.out.println(
                found.getDecision() == IdentifyDecision.IDENTIFY_DECISION_MATCH
                        ? "MATCH  " + found.getCandidates(0).getIdentityId()
                        : words(found.getDecision().name(), "IDENTIFY_DECISION_"));
    }

    /** TLS where there is a CA; else plaintext, in which a key belongs to whoever listens: only on this machine. */
    private static ChannelCredentials credentials(String address, String key) throws IOException {
        String ca = System.getenv("FACEMATCH_CA");
        if (ca == null) {
            if (!key.isEmpty() && !address.matches("(localhost|127\\..*|\\[::1\\]):\\d+")) {
                throw new IllegalArgumentException("a key needs TLS: set FACEMATCH_CA");
            }
            return InsecureChannelCredentials.create();
        }
        TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder().trustManager(new File(ca));
        String certificate = System.getenv("FACEMATCH_CERTIFICATE");
        if (certificate != null) {
            tls.keyManager(new File(certificate), new File(System.getenv("FACEMATCH_PRIVATE_KEY")));
        }
        return tls.build();
    }

    private static Metadata authorization(String key) {
        Metadata headers = new Metadata();
        if (!key.isEmpty()) {
            headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
        }
        return headers;
    }

    /**
     * Sends a call that reads again: where it was refused for want of room, after the delay that the server asks for. All
     * tries together have 10 seconds.
     */
    private static <T> T patiently(Function<Deadline, T> call) throws Exception {
        Deadline deadline = Deadline.after(10, TimeUnit.SECONDS);
        for (int attempt = 1; ; attempt++) {
            try {
                return call.apply(deadline);
            } catch (StatusRuntimeException error) {
                io.grpc.Status.Code code = error.getStatus().getCode();
                boolean isTransient =
                        code == io.grpc.Status.Code.RESOURCE_EXHAUSTED || code == io.grpc.Status.Code.UNAVAILABLE;
                long backoffMs = 100L << (attempt - 1);
                long delayMs = backoffMs / 2 + ThreadLocalRandom.current().nextLong(backoffMs / 2) + askedMs(error);
                if (attempt == 6 || !isTransient || deadline.timeRemaining(TimeUnit.MILLISECONDS) < delayMs) {
                    throw error;
                }
                Thread.sleep(delayMs);
            }
        }
    }

    private static long askedMs(StatusRuntimeException error) throws InvalidProtocolBufferException {
        for (com.google.protobuf.Any detail : details(error)) {
            if (detail.is(RetryInfo.class)) {
                com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
                return delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
            }
        }
        return 0;
    }

    private static String explain(StatusRuntimeException error) throws InvalidProtocolBufferException {
        List<String> reasons = new ArrayList<>();
        for (com.google.protobuf.Any detail : details(error)) {
            if (detail.is(ErrorInfo.class)) {
                reasons.add(0, detail.unpack(ErrorInfo.class).getReason());
            } else if (detail.is(BadRequest.class)) {
                detail.unpack(BadRequest.class).getFieldViolationsList().forEach(at -> reasons.add(at.getField()));
            }
        }
        if (reasons.isEmpty()) {
            reasons.add(error.getStatus().getCode().name());
        }
        return error.getStatus().getDescription() + " (" + String.join(", ", reasons) + ")";
    }

    private static List<com.google.protobuf.Any> details(StatusRuntimeException error) {
        Status status = StatusProto.fromThrowable(error);
        return status == null ? List.of() : status.getDetailsList();
    }

    private static Photo photo(String path) throws IOException {
        return Photo.newBuilder().setData(ByteString.copyFrom(Files.readAllBytes(Path.of(path)))).build();
    }

    private static String words(String name, String prefix) {
        return name.substring(prefix.length()).replace('_', ' ');
    }
}
