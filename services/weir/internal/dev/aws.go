package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/weir-das/weir/pkg/localaws"
)

// accessKeyID looks like one and says whose it is.
const accessKeyID = "WEIRDEV"

// startAWS starts Kinesis and KMS, which take no other credentials than this
// directory's: whoever else works on this machine does not read the stream.
// The services find the credentials as they do everywhere, by the SDK's own
// chain, so this process's environment is pointed at them and at nothing else.
// The function it returns takes that back.
func (m *mesh) startAWS() (restore func(), err error) {
	secret, err := m.awsSecret()
	if err != nil {
		return nil, err
	}
	server, err := localaws.New(localaws.Options{
		Region: region, KMSStateFile: m.dir.kms(), Credentials: map[string]string{accessKeyID: secret},
	})
	if err != nil {
		return nil, fmt.Errorf("local AWS: %w", err)
	}
	lis, err := listen("local AWS", m.AWSPort, 4566)
	if err != nil {
		return nil, err
	}
	m.parts.start("local AWS", func(ctx context.Context) error { return server.Serve(ctx, lis) })
	m.file.AWSEndpoint = "http://" + lis.Addr().String()
	m.file.AccessKeyID, m.file.SecretAccessKey = accessKeyID, secret

	restore = clearEnvironment("AWS_")
	// A file, not the secret itself: PostgreSQL's sessions inherit the
	// environment, and may not read the file.
	return restore, errors.Join(
		os.Setenv("AWS_SHARED_CREDENTIALS_FILE", m.dir.credentials()),
		os.Setenv("AWS_CONFIG_FILE", os.DevNull),
		os.Setenv("AWS_EC2_METADATA_DISABLED", "true"),
	)
}

// awsSecret returns the directory's secret, made at the first start: what
// somebody exported in another terminal stays right.
func (m *mesh) awsSecret() (string, error) {
	const key = "aws_secret_access_key = "
	text, err := os.ReadFile(m.dir.credentials())
	if _, after, ok := strings.Cut(string(text), key); ok {
		if secret, _, ok := strings.Cut(after, "\n"); ok && secret != "" {
			return secret, nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the local AWS credentials: %w", err)
	}
	secret := rand.Text()
	profile := fmt.Sprintf("[default]\naws_access_key_id = %s\n%s%s\nregion = %s\n", accessKeyID, key, secret, region)
	if err := os.WriteFile(m.dir.credentials(), []byte(profile), 0o600); err != nil {
		return "", fmt.Errorf("writing the local AWS credentials: %w", err)
	}
	return secret, nil
}

// clearEnvironment unsets every variable with the prefix, and returns the
// function that brings back exactly what was there.
func clearEnvironment(prefix string) (restore func()) {
	before := make(map[string]string)
	unset := func() {
		for _, kv := range os.Environ() {
			if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, prefix) {
				before[name] = value
				os.Unsetenv(name) // fails for no name that the environment has
			}
		}
	}
	unset()
	was := before
	return func() {
		before = make(map[string]string)
		unset()
		for name, value := range was {
			os.Setenv(name, value) // it was there
		}
	}
}
