package fakenats

import "strings"

// matches says whether a subject fits a filter, which may have * and >.
func matches(filter, subject string) bool {
	for {
		if filter == ">" {
			return subject != ""
		}
		token, filterRest, filterMore := strings.Cut(filter, ".")
		have, rest, more := strings.Cut(subject, ".")
		if token != have && (token != "*" || have == "") || filterMore != more {
			return false
		}
		if !more {
			return true
		}
		filter, subject = filterRest, rest
	}
}

func wild(subject string) bool { return strings.ContainsAny(subject, "*>") }

// overlap says whether some subject fits both filters.
func overlap(a, b string) bool {
	for {
		if a == ">" || b == ">" {
			return true
		}
		ta, ra, ma := strings.Cut(a, ".")
		tb, rb, mb := strings.Cut(b, ".")
		if ta != tb && ta != "*" && tb != "*" || ma != mb {
			return false
		}
		if !ma {
			return true
		}
		a, b = ra, rb
	}
}

// index finds what belongs to the filters that a subject fits. Filters lie under their tokens before the first wildcard.
type index[T comparable] struct {
	exact  map[string][]T
	prefix map[string][]filtered[T]
}

type filtered[T comparable] struct {
	filter string
	value  T
}

// literal is the part of a filter before its first wildcard.
func literal(filter string) string {
	i := strings.IndexAny(filter, "*>")
	return strings.TrimSuffix(filter[:i], ".")
}

func (x *index[T]) add(filter string, v T) {
	if x.exact == nil {
		x.exact, x.prefix = map[string][]T{}, map[string][]filtered[T]{}
	}
	if !wild(filter) {
		x.exact[filter] = append(x.exact[filter], v)
		return
	}
	p := literal(filter)
	x.prefix[p] = append(x.prefix[p], filtered[T]{filter, v})
}

func (x *index[T]) remove(filter string, v T) {
	if !wild(filter) {
		if kept := without(x.exact[filter], v); len(kept) > 0 {
			x.exact[filter] = kept
		} else {
			delete(x.exact, filter)
		}
		return
	}
	p := literal(filter)
	if kept := without(x.prefix[p], filtered[T]{filter, v}); len(kept) > 0 {
		x.prefix[p] = kept
	} else {
		delete(x.prefix, p)
	}
}

// without copies: somebody may be walking along the list.
func without[T comparable](list []T, v T) []T {
	var kept []T
	for _, have := range list {
		if have != v {
			kept = append(kept, have)
		}
	}
	return kept
}

// find calls do for each value whose filter fits.
func (x *index[T]) find(subject string, do func(T)) {
	for _, v := range x.exact[subject] {
		do(v)
	}
	for i := 0; ; i++ {
		prefix := ""
		if i > 0 {
			next := strings.IndexByte(subject[i:], '.')
			if next < 0 {
				return
			}
			i += next
			prefix = subject[:i]
		}
		for _, f := range x.prefix[prefix] {
			if matches(f.filter, subject) {
				do(f.value)
			}
		}
	}
}

func (x *index[T]) has(subject string) bool {
	found := false
	x.find(subject, func(T) { found = true })
	return found
}
