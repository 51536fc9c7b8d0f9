package connect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"google.golang.org/grpc"

	"github.com/weir-das/weir/pkg/obs"
	"github.com/weir-das/weir/pkg/rpc"
)

// Control dials control. The connection is lazy: a wrong address shows at the
// first call.
func (f File) Control() (*grpc.ClientConn, error) { return f.dial("control", f.GRPC.Control) }

// Publisher dials publisher.
func (f File) Publisher() (*grpc.ClientConn, error) { return f.dial("publisher", f.GRPC.Publisher) }

// Capture dials capture.
func (f File) Capture() (*grpc.ClientConn, error) { return f.dial("capture", f.GRPC.Capture) }

// Crypto dials crypto, which answers a client's questions about its health only.
func (f File) Crypto() (*grpc.ClientConn, error) { return f.dial("crypto", f.GRPC.Crypto) }

// Notifier dials notifier.
func (f File) Notifier() (*grpc.ClientConn, error) { return f.dial("notifier", f.GRPC.Notifier) }

// TLS names the client's certificate.
func (f File) TLS() rpc.TLS {
	return rpc.TLS{CertFile: f.ClientCertFile, KeyFile: f.ClientKeyFile, CAFile: f.CAFile}
}

func (f File) dial(service, target string) (*grpc.ClientConn, error) {
	if f == (File{}) {
		return nil, ErrNoMesh
	}
	if target == "" {
		return nil, fmt.Errorf("no address of %s: name it with --%s HOST:PORT, or use a connect file", service, service)
	}
	var missing []string
	for _, c := range []struct{ flag, file string }{
		{"--ca-file", f.CAFile}, {"--cert-file", f.ClientCertFile}, {"--key-file", f.ClientKeyFile},
	} {
		if c.file == "" {
			missing = append(missing, c.flag)
		} else if _, err := os.Stat(c.file); err != nil {
			return nil, fmt.Errorf("%s: %w", c.flag, err)
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("%s at %s wants a client certificate: name it with %s", service, target, strings.Join(missing, ", "))
	}
	conn, err := rpc.Dial(target, service+".weir", f.TLS(), obs.Discard())
	if err != nil {
		return nil, fmt.Errorf("dialling %s at %s: %w", service, target, err)
	}
	return conn, nil
}

// AWS is the SDK's configuration: the endpoint and credentials of the file
// where it has them, else the SDK's own chain of environment and profiles.
// The SDK retries nothing: whoever calls knows better how long to try.
func (f File) AWS(ctx context.Context) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if f.Region != "" {
		opts = append(opts, config.WithRegion(f.Region))
	}
	if f.AWSEndpoint != "" {
		opts = append(opts, config.WithBaseEndpoint(f.AWSEndpoint))
	}
	if f.AccessKeyID != "" {
		opts = append(opts, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(f.AccessKeyID, f.SecretAccessKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("configuring AWS: %w", err)
	}
	if cfg.Region == "" {
		return aws.Config{}, errors.New("no AWS region: name it with --region, AWS_REGION or a connect file")
	}
	return cfg, nil
}
