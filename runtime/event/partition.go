package event

// Partition is the hash of a canonical key modulo n; an empty key is partition 0.
//
// The hash is FNV-1a with 64 bits, then the finalizer of MurmurHash3: FNV alone carries nothing from the high bits of its
// input into its own low ones, which are all that a small n looks at.
func Partition(key []byte, n int) int {
	if len(key) == 0 || n <= 1 {
		return 0
	}
	return int(Hash(key) % uint64(n))
}

// Hash is the hash behind Partition.
func Hash(key []byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, c := range key {
		h ^= uint64(c)
		h *= 0x100000001b3
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h
}
