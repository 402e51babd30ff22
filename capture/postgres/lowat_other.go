//go:build !unix

package postgres

import "errors"

func setLowWater(uintptr, int) error { return errors.ErrUnsupported }
