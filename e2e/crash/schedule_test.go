package main

import (
	"fmt"
	"strings"
	"testing"
)

func planned(seed uint64, steps int) (plan []string, once int) {
	all := []Fault{{Name: "a"}, {Name: "b"}, {Name: "c", Exclusive: true}, {Name: "d"}, {Name: "e"}, {Name: "f"}}
	s := NewSchedule(seed, all)
	for range steps {
		step := s.Next()
		var names []string
		for i, f := range step.Faults {
			names = append(names, fmt.Sprintf("%s/%x", f.Name, step.Seeds[i]))
		}
		plan = append(plan, fmt.Sprintf("%v %s", step.After, strings.Join(names, "+")))
		if once == 0 && s.Once() {
			once = len(plan)
		}
	}
	return plan, once
}

// The same seed gives the same plan, another one another.
func TestScheduleIsTheSeeds(t *testing.T) {
	t.Parallel()
	a, _ := planned(7, 50)
	b, _ := planned(7, 50)
	c, _ := planned(8, 50)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("one seed gives two plans:\n%s\n%s", a, b)
	}
	if fmt.Sprint(a) == fmt.Sprint(c) {
		t.Error("two seeds give one plan")
	}
}

// After one round every fault has come exactly once, and exclusive ones came alone.
func TestScheduleRounds(t *testing.T) {
	t.Parallel()
	plan, once := planned(3, 30)
	together := 0
	seen := map[string]int{}
	for i, line := range plan {
		_, names, _ := strings.Cut(line, " ")
		faults := strings.Split(names, "+")
		if len(faults) > 1 {
			together++
		}
		for _, f := range faults {
			name, _, _ := strings.Cut(f, "/")
			if i < once {
				seen[name]++
			}
			if name == "c" && len(faults) > 1 {
				t.Errorf("an exclusive fault has company: %s", line)
			}
		}
	}
	for _, name := range strings.Split("abcdef", "") {
		if seen[name] == 0 {
			t.Errorf("%s did not come in the first round: %v", name, seen)
		}
	}
	if together == 0 {
		t.Error("no two faults come together")
	}
}

// A packed round holds every fault once, in fewer steps, and never two of a lane together.
func TestSchedulePacked(t *testing.T) {
	t.Parallel()
	all := faults(postgres{})
	s := NewSchedule(5, all)
	s.Company, s.Packed = 4, true
	seen, steps := map[string]int{}, 0
	for ; !s.Once(); steps++ {
		step := s.Next()
		lanes := map[string]string{}
		for _, f := range step.Faults {
			seen[f.Name]++
			if other := lanes[f.lane()]; other != "" {
				t.Errorf("%s and %s come together", f.Name, other)
			}
			if lanes[f.lane()] = f.Name; f.Exclusive && len(step.Faults) > 1 {
				t.Errorf("%s has company", f.Name)
			}
		}
	}
	for _, f := range all {
		if seen[f.Name] != 1 {
			t.Errorf("%s came %d times", f.Name, seen[f.Name])
		}
	}
	if steps > len(all)*2/3 {
		t.Errorf("%d steps for %d faults", steps, len(all))
	}
}
