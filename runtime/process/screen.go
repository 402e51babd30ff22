package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Screen keeps a block of status lines below what is logged. Elsewhere than on a terminal it only passes the log through.
type Screen struct {
	live  bool
	out   io.Writer
	width func() int

	mu      sync.Mutex
	painted int // lines of the block that stand on the screen
	block   []string
}

// NewScreen writes to w, which may be a terminal.
func NewScreen(w io.Writer) *Screen {
	p := &Screen{out: w, width: func() int { return 80 }}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.live = true
		p.width = func() int {
			if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
				return columns
			}
			return 80
		}
	}
	return p
}

// Live says whether there is a terminal.
func (p *Screen) Live() bool { return p.live }

// Write puts whole lines of the log above the block.
func (p *Screen) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live || p.painted == 0 {
		return p.out.Write(b)
	}
	var frame bytes.Buffer
	p.erase(&frame)
	frame.Write(b)
	p.draw(&frame)
	if _, err := p.out.Write(frame.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Show replaces the block.
func (p *Screen) Show(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var frame bytes.Buffer
	p.erase(&frame)
	p.block = lines
	p.draw(&frame)
	_, _ = p.out.Write(frame.Bytes()) // a terminal that went away stops nothing
}

func (p *Screen) erase(frame *bytes.Buffer) {
	if p.painted > 0 {
		fmt.Fprintf(frame, "\x1b[%dA\r\x1b[J", p.painted)
	}
	p.painted = 0
}

func (p *Screen) draw(frame *bytes.Buffer) {
	width := p.width()
	for _, line := range p.block {
		frame.WriteString(cut(line, width-1) + "\n")
	}
	p.painted = len(p.block)
}

// cut shortens a line to so many characters.
func cut(line string, width int) string {
	if width < 1 || utf8.RuneCountInString(line) <= width {
		return line
	}
	runes := []rune(line)
	return string(runes[:width-1]) + "…"
}
