// Are two photos of the same person? And who is the second? Usage: client ADDRESS GALLERY PHOTO PHOTO
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "facematch.example/client/stubs"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: client ADDRESS GALLERY PHOTO PHOTO")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(2)
	}
}

func run(address, gallery, pathA, pathB string) error {
	transport, err := transportCredentials()
	if err != nil {
		return err
	}
	conn, err := grpc.Dial(address,
		grpc.WithTransportCredentials(transport),
		grpc.WithUnaryInterceptor(authorize(os.Getenv("FACEMATCH_KEY"))),
		// A machine that is gone says nothing: a quiet server is asked whether it is there.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 30 * time.Second}))
	if err != nil {
		return err
	}
	defer conn.Close()
	a, err := photo(pathA)
	if err != nil {
		return err
	}
	b, err := photo(pathB)
	if err != nil {
		return err
	}

	var verified *pb.VerifyResponse
	err = patiently(func(ctx context.Context) (err error) {
		verified, err = pb.NewFaceServiceClient(conn).Verify(ctx, &pb.VerifyRequest{
			A: &pb.VerifySide{Side: &pb.VerifySide_Photo{Photo: a}},
			B: &pb.VerifySide{Side: &pb.VerifySide_Photo{Photo: b}},
		})
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s  score %.4f, threshold %.4f\n", words(verified.Decision.String(), "VERIFY_DECISION_"),
		verified.Score, verified.Threshold.GetCosine())

	var found *pb.IdentifyResponse
	err = patiently(func(ctx context.Context) (err error) {
		found, err = pb.NewMatchServiceClient(conn).Identify(ctx, &pb.IdentifyRequest{
			GalleryId: gallery,
			Probe:     &pb.Probe{Probe: &pb.Probe_Photo{Photo: b}},
			TopK:      1,
		})
		return err
	})
	if err != nil {
		return err
	}
	if found.Decision == pb.IdentifyDecision_IDENTIFY_DECISION_MATCH {
		fmt.Printf("MATCH  %s\n", found.Candidates[0].IdentityId)
	} else {
		fmt.Println(words(found.Decision.String(), "IDENTIFY_DECISION_"))
	}
	return nil
}

// transportCredentials: TLS where there is a CA; else plaintext, to this machine alone, for a key and photos in plain
// sight belong to whoever listens.
func transportCredentials() (credentials.TransportCredentials, error) {
	path := os.Getenv("FACEMATCH_CA")
	if path == "" {
		return local.NewCredentials(), nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("FACEMATCH_CA has no certificate")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if certificate := os.Getenv("FACEMATCH_CERTIFICATE"); certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, os.Getenv("FACEMATCH_PRIVATE_KEY"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

func authorize(key string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply interface{}, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
		}
		return invoke(ctx, method, request, reply, conn, options...)
	}
}

// patiently sends a call that reads again: where it was refused for want of room, after the delay that the server asks
// for. All tries together have 10 seconds.
func patiently(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	backoff := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := call(ctx)
		code := status.Code(err)
		if err == nil || attempt == 6 || (code != codes.ResourceExhausted && code != codes.Unavailable) {
			return err
		}
		delay := backoff/2 + time.Duration(rand.Int63n(int64(backoff/2)))
		backoff *= 2
		for _, detail := range status.Convert(err).Details() {
			if retry, ok := detail.(*errdetails.RetryInfo); ok {
				asked := retry.GetRetryDelay()
				delay += time.Duration(asked.GetSeconds())*time.Second + time.Duration(asked.GetNanos())
			}
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}

func explain(err error) string {
	said := status.Convert(err)
	reasons := []string{}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reasons = append([]string{detail.Reason}, reasons...)
		case *errdetails.BadRequest:
			for _, at := range detail.FieldViolations {
				reasons = append(reasons, at.Field)
			}
		}
	}
	if len(reasons) == 0 {
		reasons = append(reasons, said.Code().String())
	}
	return fmt.Sprintf("%s (%s)", said.Message(), strings.Join(reasons, ", "))
}

func photo(path string) (*pb.Photo, error) {
	data, err := os.ReadFile(path)
	return &pb.Photo{Data: data}, err
}

func words(name, prefix string) string {
	return strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", " ")
}
