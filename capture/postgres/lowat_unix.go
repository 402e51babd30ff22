//go:build unix

package postgres

import "golang.org/x/sys/unix"

func setLowWater(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
}
