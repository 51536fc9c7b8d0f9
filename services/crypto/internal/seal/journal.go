package seal

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-das/weir/pkg/journal"
	cryptov1 "github.com/weir-das/weir/proto/gen/weir/crypto/v1"
)

// GetJournal implements CryptoService.
func (s *Server) GetJournal(ctx context.Context, _ *cryptov1.GetJournalRequest) (*cryptov1.GetJournalResponse, error) {
	p, err := s.position.ask(ctx)
	if err != nil {
		return nil, err
	}
	return &cryptov1.GetJournalResponse{MadeAt: timestamppb.New(p.Made), First: p.First, Last: p.Last}, nil
}

// position asks the journal for many captures at once: one question serves all
// who came before it was asked. An older answer serves nobody: what the asker had
// acknowledged by then may not be in it.
type position struct {
	of func(context.Context) (journal.Position, error)

	// mu is held while the journal is asked.
	mu   sync.Mutex
	at   time.Time // when it was asked last
	last journal.Position
	err  error
}

func (p *position) ask(ctx context.Context) (journal.Position, error) {
	came := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || !p.at.After(came) {
		p.at = time.Now()
		p.last, p.err = p.of(ctx)
	}
	return p.last, p.err
}
