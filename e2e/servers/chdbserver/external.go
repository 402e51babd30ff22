package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

type extTable struct {
	name, structure, format string
	data                    []byte
}

func isExtParam(ext []extTable, k string) bool {
	for _, t := range ext {
		if k == t.name+"_format" || k == t.name+"_structure" || k == t.name+"_types" {
			return true
		}
	}
	return false
}

func readMultipart(r *http.Request, boundary string, p url.Values, query []byte) ([]byte, []extTable, error) {
	var ext []extTable
	mr := multipart.NewReader(r.Body, boundary)
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			return query, ext, nil
		}
		if err != nil {
			return nil, nil, err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, nil, err
		}
		name := part.FormName()
		switch {
		case name == "query":
			query = append(query, b...)
		case strings.HasPrefix(name, "param_"):
			p.Set(name, string(b))
		default:
			f := p.Get(name + "_format")
			if f == "" {
				f = "TabSeparated"
			}
			st := p.Get(name + "_structure")
			if st == "" {
				for i, ty := range strings.Split(p.Get(name+"_types"), ",") {
					if i > 0 {
						st += ", "
					}
					st += fmt.Sprintf("_%d %s", i+1, ty)
				}
			}
			ext = append(ext, extTable{name, st, f, b})
		}
	}
}

// hello encodes the one-row answer to clickhouse-go's first query.
func (s *server) hello(rev int) []byte {
	var b []byte
	str := func(v string) { b = append(binary.AppendUvarint(b, uint64(len(v))), v...) }
	if rev > 0 {
		b = append(b, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0) // block info
	}
	b = append(b, 4, 1) // columns, rows
	col := func(name, typ string) {
		str(name)
		str(typ)
		if rev >= 54454 {
			b = append(b, 0) // no custom serialization
		}
	}
	col("displayName()", "String")
	str(s.displayName)
	col("version()", "String")
	str(s.version)
	col("revision()", "UInt32")
	b = append(b, 0, 0, 0, 0)
	col("timezone()", "String")
	str(s.timezone)
	return b
}
