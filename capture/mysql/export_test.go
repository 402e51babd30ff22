package mysql

import "time"

// SetPatience sets how long a transaction that was published may be missing.
func SetPatience(s *Source, d time.Duration) { s.patience = d }
