package failpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Action is what happens at a failpoint.
type Action string

// Actions.
const (
	Kill  Action = "kill"  // SIGKILL to the process itself
	Stop  Action = "stop"  // SIGSTOP to the process itself; somebody else has to send SIGCONT
	Sleep Action = "sleep" // the goroutine waits
)

// Trigger is an action at the n-th time that a failpoint is reached.
type Trigger struct {
	Name   Name
	Action Action
	For    time.Duration // of a sleep
	Hit    int           // from 1
}

// String is what Parse reads.
func (t Trigger) String() string {
	s := string(t.Name) + "=" + string(t.Action)
	if t.Action == Sleep {
		s += ":" + t.For.String()
	}
	return s + "@" + strconv.Itoa(t.Hit)
}

// Parse reads triggers such as "publish=kill@137,floor.moved=stop@3,write.before=sleep:300ms@5"; without @n it is the first time.
func Parse(text string) ([]Trigger, error) {
	var all []Trigger
	for _, part := range strings.Split(text, ",") {
		if part == "" {
			continue
		}
		name, what, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q: expected name=action@hit", part)
		}
		t := Trigger{Name: Name(name), Hit: 1}
		if _, known := Points[t.Name]; !known {
			return nil, fmt.Errorf("%q: no failpoint is named %q", part, name)
		}
		action, hit, counted := strings.Cut(what, "@")
		if counted {
			n, err := strconv.Atoi(hit)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("%q: expected a number of 1 or more after @", part)
			}
			t.Hit = n
		}
		action, length, timed := strings.Cut(action, ":")
		t.Action = Action(action)
		switch {
		case t.Action == Sleep && timed:
			d, err := time.ParseDuration(length)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", part, err)
			}
			t.For = d
		case !timed && (t.Action == Kill || t.Action == Stop):
		default:
			return nil, fmt.Errorf("%q: expected kill, stop or sleep:duration", part)
		}
		all = append(all, t)
	}
	return all, nil
}
