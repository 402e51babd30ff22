package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/runnel-dev/runnel/capture"
	mysqlsource "github.com/runnel-dev/runnel/capture/mysql"
	pgsource "github.com/runnel-dev/runnel/capture/postgres"
	"github.com/runnel-dev/runnel/functions/clickhouse"
	"github.com/runnel-dev/runnel/functions/elasticsearch"
	httpsink "github.com/runnel-dev/runnel/functions/http"
	natssink "github.com/runnel-dev/runnel/functions/nats"
	"github.com/runnel-dev/runnel/functions/postgres"
	"github.com/runnel-dev/runnel/runtime/doctor"
	"github.com/runnel-dev/runnel/runtime/registry"
	"github.com/runnel-dev/runnel/runtime/sink"
)

// source is what the command needs of any.
type source interface {
	capture.Source
	doctor.Examiner
}

// slotted is a source whose server keeps its log for a slot.
type slotted interface {
	SlotStatus(ctx context.Context) (pgsource.SlotStatus, error)
}

// newSource makes the source of a specification, references resolved.
func newSource(s *registry.Source, log *slog.Logger) (source, error) {
	connector, text := s.Connector()
	url, err := registry.Resolve(text)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", s.Name, err)
	}
	var made source
	if p := s.Postgres; p != nil {
		made, err = pgsource.New(pgsource.Config{
			Name: s.Name, URL: url, Slot: p.Slot, Publication: p.Publication, Tables: s.Tables,
			Failover: p.Failover, Heartbeat: p.Heartbeat, Log: log,
		})
	} else {
		made, err = mysqlsource.New(mysqlsource.Config{Name: s.Name, Flavor: connector, URL: url, Tables: s.Tables, Log: log})
	}
	if err != nil {
		return nil, configurationError{fmt.Errorf("source %s: %w", s.Name, err)}
	}
	return made, nil
}

// newHandler makes the handler of a function, references resolved. What is wrong here is wrong until somebody acts.
func newHandler(f *registry.Function, log *slog.Logger) (sink.Handler, error) {
	h, err := makeHandler(f, log.With("function", f.Name))
	if err != nil {
		return nil, sink.Halt(fmt.Errorf("function %s: %w", f.Name, err))
	}
	return h, nil
}

// lookAt makes the handler of a function for a command that looks at its target and is done. It says nothing into the log.
func lookAt(f *registry.Function) (h sink.Handler, done func(), err error) {
	if h, err = newHandler(f, slog.New(slog.DiscardHandler)); err != nil {
		return nil, nil, err
	}
	if c, ok := h.(sink.Closer); ok {
		return h, c.Close, nil
	}
	return h, func() {}, nil
}

func makeHandler(f *registry.Function, log *slog.Logger) (sink.Handler, error) {
	var missing error
	resolve := func(s string) string {
		v, err := registry.Resolve(s)
		missing = errors.Join(missing, err)
		return v
	}
	switch t := f.To; {
	case t.Elasticsearch != nil:
		c := elasticsearch.Config{
			Function: f.Name, URL: resolve(t.Elasticsearch.URL), User: resolve(t.Elasticsearch.User), Password: resolve(t.Elasticsearch.Password),
			APIKey: resolve(t.Elasticsearch.APIKey), CAFile: resolve(t.Elasticsearch.CAFile), Index: t.Elasticsearch.Index, Log: log,
		}
		if missing != nil {
			return nil, missing
		}
		return elasticsearch.New(c)
	case t.ClickHouse != nil:
		c := clickhouse.Config{Function: f.Name, URL: resolve(t.ClickHouse.URL), Table: t.ClickHouse.Table, Log: log}
		if missing != nil {
			return nil, missing
		}
		return clickhouse.New(c)
	case t.Postgres != nil:
		c := postgres.Config{Function: f.Name, URL: resolve(t.Postgres.URL), Table: t.Postgres.Table, InOrder: f.Ordering == registry.OrderSource, Log: log}
		if missing != nil {
			return nil, missing
		}
		return postgres.New(c)
	case t.HTTP != nil:
		h := t.HTTP
		c := httpsink.Config{
			Function: f.Name, URL: resolve(h.URL), Format: h.Format, Secret: resolve(h.Secret), Token: resolve(h.Token), User: resolve(h.User), Password: resolve(h.Password),
			Headers: map[string]string{}, CAFile: resolve(h.CAFile), CertFile: resolve(h.CertFile), KeyFile: resolve(h.KeyFile),
		}
		for name, value := range h.Headers {
			c.Headers[name] = resolve(value)
		}
		if missing != nil {
			return nil, missing
		}
		return httpsink.New(c)
	case t.NATS != nil:
		n := t.NATS
		c := natssink.Config{
			Function: f.Name, URL: resolve(n.URL), Subject: n.Subject, Stream: n.Stream, Domain: n.Domain, User: resolve(n.User), Password: resolve(n.Password),
			Token: resolve(n.Token), CredsFile: resolve(n.CredsFile), NKeyFile: resolve(n.NKeyFile),
			CAFile: resolve(n.CAFile), CertFile: resolve(n.CertFile), KeyFile: resolve(n.KeyFile),
		}
		if missing != nil {
			return nil, missing
		}
		return natssink.New(c)
	}
	return nil, fmt.Errorf("its handler %s is in a binary of its own, and not in runnel", f.Handler)
}

// checkReferences resolves every reference of the files once, so that a missing variable is known before anything starts.
func checkReferences(files *registry.Files) error {
	var faults []error
	for i := range files.Sources {
		_, url := files.Sources[i].Connector()
		if _, err := registry.Resolve(url); err != nil {
			faults = append(faults, fmt.Errorf("source %s: %w", files.Sources[i].Name, err))
		}
	}
	for i := range files.Functions {
		f := &files.Functions[i]
		if f.Handler != "" {
			continue // its worker has an environment of its own
		}
		for _, text := range f.References() {
			if _, err := registry.Resolve(text); err != nil {
				faults = append(faults, fmt.Errorf("function %s: %w", f.Name, err))
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return configurationError{err}
	}
	return nil
}

// handlerMaker is what the host calls.
func handlerMaker(log *slog.Logger) func(context.Context, *registry.Function) (sink.Handler, error) {
	return func(_ context.Context, f *registry.Function) (sink.Handler, error) { return newHandler(f, log) }
}
