package link

import "time"

// SetPatience shortens what control is given to know an instance again.
func (l *Link) SetPatience(d time.Duration) { l.patience = d }
