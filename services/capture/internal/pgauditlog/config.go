package pgauditlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Weakness names the source in every status.
const Weakness = "pgaudit log (weaker: asynchronous, read from files that the server writes; whoever may set pgaudit.log or remove the files can blind it)"

// Config is the section pgaudit_log of capture's configuration. It is off where Pattern is empty.
type Config struct {
	// Pattern matches the files of one server's log in one format, also after they were rotated.
	Pattern string `koanf:"pattern" help:"follow the log files that match, as /var/log/postgresql/*.csv, instead of a server's ring"`
	Format  string `koanf:"format" help:"csv or json: the server's log_destination, csvlog or jsonlog" default:"csv"`
	// Timezone is the server's log_timezone.
	Timezone string `koanf:"timezone" help:"the server's log_timezone" default:"UTC"`
	// From is where the first start begins; every later one goes on.
	From string `koanf:"from" help:"where a capture without a ring begins: end, with what comes from now on, or begin, with the oldest file" default:"end"`
	// PositionFile outlives the ring: on a disk, it holds no text.
	PositionFile string `koanf:"position_file" help:"a file on a disk by which a host that went down is gone on from: at least once; none where empty"`
	// ServerVersion fills Aurora's serverVersion, which a log does not say.
	ServerVersion string `koanf:"server_version" help:"serverVersion of every event, such as 15.20: a log does not say it"`
	// RingSize is of the ring that capture makes, in bytes.
	RingSize int64 `koanf:"ring_size" help:"bytes of the ring that capture makes; one that exists keeps its size" default:"67108864"`
}

const (
	formatCSV, formatJSON = "csv", "json"
	fromEnd, fromBegin    = "end", "begin"
	defaultRingSize       = 64 << 20
	minRingSize           = 8 << 20 // an event may take an eighth
)

// On says whether a log is to be followed.
func (c Config) On() bool { return c.Pattern != "" }

// WithDefaults fills what was left out.
func (c Config) WithDefaults() Config {
	if !c.On() {
		return c
	}
	if c.Format == "" {
		c.Format = formatCSV
	}
	if c.Timezone == "" {
		c.Timezone = "UTC"
	}
	if c.From == "" {
		c.From = fromEnd
	}
	if c.RingSize == 0 {
		c.RingSize = defaultRingSize
	}
	return c
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	if !c.On() {
		// A file without the section gives the defaults of its keys.
		usual := Config{Pattern: "on"}.WithDefaults()
		usual.Pattern = ""
		if c != (Config{}) && c != usual {
			return errors.New("pgaudit_log.pattern: empty: name the log files, as /var/log/postgresql/*.csv, or leave the section out")
		}
		return nil
	}
	c = c.WithDefaults()
	var errs []error
	if _, err := filepath.Match(c.Pattern, ""); err != nil || !filepath.IsAbs(c.Pattern) {
		errs = append(errs, fmt.Errorf("pgaudit_log.pattern: %q, want an absolute path with * for what changes", c.Pattern))
	}
	if c.Format != formatCSV && c.Format != formatJSON {
		errs = append(errs, fmt.Errorf("pgaudit_log.format: %q, want csv or json", c.Format))
	}
	if _, err := time.LoadLocation(c.Timezone); err != nil {
		errs = append(errs, fmt.Errorf("pgaudit_log.timezone: %q: %w", c.Timezone, err))
	}
	if c.PositionFile != "" && !filepath.IsAbs(c.PositionFile) {
		errs = append(errs, fmt.Errorf("pgaudit_log.position_file: %q, want an absolute path", c.PositionFile))
	}
	if c.From != fromEnd && c.From != fromBegin {
		errs = append(errs, fmt.Errorf("pgaudit_log.from: %q, want end or begin", c.From))
	}
	if c.RingSize < minRingSize || c.RingSize%4096 != 0 {
		errs = append(errs, fmt.Errorf("pgaudit_log.ring_size: %d, want a multiple of 4096 from %d on", c.RingSize, minRingSize))
	}
	return errors.Join(errs...)
}
