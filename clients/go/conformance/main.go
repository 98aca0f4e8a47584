// The adapter of the project's conformance tests: parse, land and load, by the package that is tested.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"instantfailover"
	"instantfailover/internal/redirect"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "parse":
		err = lines(func(line string) (string, error) { return parse(line), nil })
	case len(os.Args) == 2 && os.Args[1] == "land":
		err = lines((&lander{pools: map[string]*sql.DB{}, conns: map[string]*sql.Conn{}}).answer)
	case len(os.Args) == 3 && os.Args[1] == "load":
		err = load(os.Args[2])
	default:
		err = errors.New("usage: conformance parse | land | load JSON")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lines answers each line of the input with one line.
func lines(answer func(string) (string, error)) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		text, err := answer(in.Text())
		if err != nil {
			return err
		}
		fmt.Println(text)
	}
	return in.Err()
}

// parse gives the outcome of an attempt: `origin TAB code:hexmessage ...`.
func parse(line string) string {
	fields := strings.Split(line, "\t")
	follow := redirect.From(fields[0])
	outcome := "ordinary"
	for _, field := range fields[1:] {
		code, message, _ := strings.Cut(field, ":")
		number, _ := strconv.ParseUint(code, 10, 16)
		bytes, _ := hex.DecodeString(message)
		target, err := follow.Refused(uint16(number), string(bytes))
		var stop redirect.Stop
		switch {
		case errors.As(err, &stop):
			return string(stop.Reason)
		case target == nil:
			return "ordinary"
		}
		outcome = target.String()
	}
	return outcome
}

// server is where to connect, and how.
type server struct {
	Host string
	Port int
	// Hosts is a list to choose from, each host:port. The driver takes one; it gets them all.
	Hosts    []string
	User     string
	Password string
	Database string
	TLS      string
	CA       string
	Follow   string
	Timeout  float64
}

func (s server) open() (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	if strings.HasPrefix(s.Host, "/") {
		cfg.Net, cfg.Addr = "unix", s.Host
	}
	if len(s.Hosts) > 0 {
		cfg.Addr = strings.Join(s.Hosts, ",")
	}
	cfg.User, cfg.Passwd, cfg.DBName = s.User, s.Password, s.Database
	cfg.Logger = &mysql.NopLogger{}
	if s.Follow != "" {
		cfg.Params = map[string]string{"instantFailover": s.Follow}
	}
	switch s.TLS {
	case "require":
		cfg.TLSConfig = "skip-verify"
	case "verify":
		cfg.TLS = &tls.Config{}
		if s.CA != "" {
			pem, err := os.ReadFile(s.CA)
			if err != nil {
				return nil, err
			}
			cfg.TLS.RootCAs = x509.NewCertPool()
			if !cfg.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("no certificate in %s", s.CA)
			}
		}
	}
	connector, err := instantfailover.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (s server) context() (context.Context, context.CancelFunc) {
	if s.Timeout == 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), time.Duration(s.Timeout*float64(time.Second)))
}

type lander struct {
	pools map[string]*sql.DB
	conns map[string]*sql.Conn
}

type request struct {
	Op, ID, SQL string
	Size        int
	server
}

// answer carries out one JSON request.
func (l *lander) answer(line string) (string, error) {
	var r request
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return "", err
	}
	value, err := l.carryOut(r)
	if err == nil {
		text, err := json.Marshal(map[string]any{"ok": value})
		return string(text), err
	}
	code := uint16(0)
	if refusal := (*mysql.MySQLError)(nil); errors.As(err, &refusal) {
		code = refusal.Number
	}
	text, err := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": err.Error()}})
	return string(text), err
}

func (l *lander) carryOut(r request) (*string, error) {
	switch r.Op {
	case "connect":
		db, err := r.open()
		if err != nil {
			return nil, err
		}
		ctx, cancel := r.context()
		defer cancel()
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		l.pools["connection "+r.ID], l.conns[r.ID] = db, conn
		return nil, nil
	case "query":
		conn, found := l.conns[r.ID]
		if !found {
			return nil, fmt.Errorf("no connection %q", r.ID)
		}
		return first(conn.QueryRowContext(context.Background(), r.SQL))
	case "close":
		err := errors.Join(l.conns[r.ID].Close(), l.pools["connection "+r.ID].Close())
		delete(l.conns, r.ID)
		return nil, err
	case "pool":
		db, err := r.open()
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(r.Size)
		l.pools[r.ID] = db
		return nil, nil
	case "pool_query":
		db, found := l.pools[r.ID]
		if !found {
			return nil, fmt.Errorf("no pool %q", r.ID)
		}
		return first(db.QueryRow(r.SQL))
	}
	return nil, fmt.Errorf("unknown op %q", r.Op)
}

// first returns the first column as text.
func first(row *sql.Row) (*string, error) {
	var value sql.NullString
	if err := row.Scan(&value); err != nil || !value.Valid {
		return nil, err
	}
	return &value.String, nil
}
