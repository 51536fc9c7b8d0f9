package weir_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/jackc/pgx/v5"
)

// keyWorks enables or disables the key under which data keys are made. A crypto
// that starts while it is disabled can seal nothing.
func (m *mesh) keyWorks(works bool) {
	m.t.Helper()
	cfg, err := m.file.AWS(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	key, err := client.DescribeKey(m.t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/weir-dev")})
	if err == nil && works {
		_, err = client.EnableKey(m.t.Context(), &kms.EnableKeyInput{KeyId: key.KeyMetadata.KeyId})
	} else if err == nil {
		_, err = client.DisableKey(m.t.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId})
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// spools runs statements, which nobody can seal, until more than a ring of them
// is in the spool; then lets them be sealed, and wants all of them in the stream.
func (m *mesh) spools() {
	m.t.Helper()
	m.awaitStatus("spool of dev-1: .*64 MiB")
	conn, err := pgx.Connect(m.t.Context(), m.file.PostgresDSN)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(m.t.Context()))
	statements := 0
	for end := time.Now().Add(time.Minute); m.numbers().GetSpoolUsedBytes() < 1<<20; {
		if time.Now().After(end) {
			m.t.Fatalf("after %d statements the spool holds %d bytes:\n%s", statements, m.numbers().GetSpoolUsedBytes(), m.weir("stream", "status"))
		}
		if s := m.numbers(); s.GetRingUsedBytes() > s.GetRingBytes()/100*70 {
			time.Sleep(10 * time.Millisecond) // capture spools from the half on
			continue
		}
		statements++
		sql := fmt.Sprintf("select length('%d%s')", statements, strings.Repeat("x", 8<<10))
		if _, err := conn.Exec(m.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			m.t.Fatal(err)
		}
	}
	// Capture reports every second.
	m.awaitStatus(`spool of dev-1: [0-9.]+ MiB of 64 MiB, [1-9][0-9]* events since 20.*Z, waiting for the journal`)
	m.keyWorks(true)
	m.awaitStatus(`spool of dev-1: empty, room for 64 MiB`)
	m.query("select 'after the outage'")
	arrived := 0
	for _, e := range m.awaitText("select 'after the outage'") {
		if strings.HasSuffix(e.Text, "xxx')") {
			arrived++
		}
	}
	if s := m.numbers(); arrived != statements || s.GetLost() != 0 {
		m.t.Errorf("%d of %d statements arrived, and capture says %v", arrived, statements, s)
	}
}

// awaitStatus waits until `weir stream status` prints what the expression wants.
func (m *mesh) awaitStatus(want string) {
	m.t.Helper()
	out := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out = m.weir("stream", "status"); regexp.MustCompile(want).MatchString(out) {
			return
		}
	}
	m.t.Fatalf("stream status never says %s:\n%s", want, out)
}
