package outbox

import "time"

// SetTimes makes streams last as long as turn, and records wait as long as
// hedge before they are sent again. Call it before Run.
func (o *Outbox) SetTimes(turn, hedge time.Duration) { o.turn, o.hedging = turn, hedge }
