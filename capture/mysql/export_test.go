package mysql

import "time"

// SetPatience sets how long a transaction that was published may be missing.
func SetPatience(s *Source, d time.Duration) { s.patience = d }

// SetSilence sets how long a connection may say nothing.
func SetSilence(s *Source, d time.Duration) { s.silence = d }
