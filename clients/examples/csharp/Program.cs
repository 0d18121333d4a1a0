// Are two photos of the same person? And who is the second? Usage: dotnet run URL GALLERY PHOTO PHOTO
using System.Globalization;
using System.Security.Cryptography.X509Certificates;
using Facematch.V1;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Grpc.Net.Client;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
if (args is not [var url, var gallery, var pathA, var pathB])
{
    Console.Error.WriteLine("usage: URL GALLERY PHOTO PHOTO");
    return 2;
}

var address = new Uri(url);
var key = Environment.GetEnvironmentVariable("FACEMATCH_KEY");
// A key in plain sight belongs to whoever listens.
if (!string.IsNullOrEmpty(key) && address.Scheme != Uri.UriSchemeHttps && !address.IsLoopback)
{
    Console.Error.WriteLine("a key needs https:");
    return 2;
}

using var handler = Handler();
using var channel = GrpcChannel.ForAddress(address, new GrpcChannelOptions
{
    HttpHandler = handler,
    MaxReceiveMessageSize = 64 << 20,
});
var headers = new Metadata();
if (!string.IsNullOrEmpty(key)) headers.Add("authorization", $"Bearer {key}");
var faces = new FaceService.FaceServiceClient(channel);
var matching = new MatchService.MatchServiceClient(channel);

try
{
    var (a, b) = (await Photo(pathA), await Photo(pathB));
    var pair = new VerifyRequest { A = new VerifySide { Photo = a }, B = new VerifySide { Photo = b } };
    var verified = await Patiently(deadline => faces.VerifyAsync(pair, headers, deadline));
    var decision = verified.Decision == VerifyDecision.Match ? "MATCH" : "NO MATCH";
    Console.WriteLine($"{decision}  score {verified.Score:F4}, threshold {verified.Threshold.Cosine:F4}");

    var search = new IdentifyRequest { GalleryId = gallery, Probe = new Probe { Photo = b }, TopK = 1 };
    var found = await Patiently(deadline => matching.IdentifyAsync(search, headers, deadline));
    Console.WriteLine(found.Decision switch
    {
        IdentifyDecision.Match => $"MATCH  {found.Candidates[0].IdentityId}",
        IdentifyDecision.NoMatch => "NO MATCH",
        IdentifyDecision.Ambiguous => "AMBIGUOUS",
        _ => "NOT SEARCHABLE",
    });
    return 0;
}
catch (RpcException error)
{
    var status = error.GetRpcStatus();
    var reason = status?.GetDetail<ErrorInfo>()?.Reason ?? error.StatusCode.ToString();
    var fields = status?.GetDetail<BadRequest>()?.FieldViolations.Select(at => at.Field) ?? [];
    Console.Error.WriteLine($"{error.Status.Detail} ({string.Join(", ", fields.Prepend(reason))})");
    return 2;
}

// TLS with a CA of one's own, and a certificate of the caller's, where they are stated.
static SocketsHttpHandler Handler()
{
    var handler = new SocketsHttpHandler
    {
        // A machine that is gone says nothing: a quiet server is asked whether it is there.
        KeepAlivePingDelay = TimeSpan.FromSeconds(30),
        KeepAlivePingTimeout = TimeSpan.FromSeconds(30),
        EnableMultipleHttp2Connections = true,
    };
    if (Environment.GetEnvironmentVariable("FACEMATCH_CA") is { Length: > 0 } ca)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.ImportFromPemFile(ca);
        handler.SslOptions.CertificateChainPolicy = policy;
    }
    if (Environment.GetEnvironmentVariable("FACEMATCH_CERTIFICATE") is { Length: > 0 } certificate)
    {
        var privateKey = Environment.GetEnvironmentVariable("FACEMATCH_PRIVATE_KEY");
        handler.SslOptions.ClientCertificates = [X509Certificate2.CreateFromPemFile(certificate, privateKey)];
    }
    return handler;
}

// Sends a call that reads again: where it was refused for want of room, after the delay that the server asks for. All tries
// together have 10 seconds.
static async Task<T> Patiently<T>(Func<DateTime, AsyncUnaryCall<T>> call)
{
    var deadline = DateTime.UtcNow.AddSeconds(10);
    for (var attempt = 1; ; attempt++)
    {
        try
        {
            return await call(deadline);
        }
        catch (RpcException error) when (attempt < 6
            && error.StatusCode is (StatusCode.ResourceExhausted or StatusCode.Unavailable))
        {
            var asked = error.GetRpcStatus()?.GetDetail<RetryInfo>()?.RetryDelay?.ToTimeSpan() ?? TimeSpan.Zero;
            var backoff = TimeSpan.FromMilliseconds(100 * Math.Pow(2, attempt - 1) * (0.5 + Random.Shared.NextDouble() / 2));
            if (DateTime.UtcNow + asked + backoff >= deadline) throw;
            await Task.Delay(asked + backoff);
        }
    }
}

static async Task<Photo> Photo(string path) => new() { Data = ByteString.CopyFrom(await File.ReadAllBytesAsync(path)) };
