package instantfailover_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"instantfailover"
)

// open is a pool whose connections begin at addr, with parameters of the DSN.
func open(t *testing.T, addr, parameters string) *sql.DB {
	t.Helper()
	db, err := sql.Open("instant-failover", fmt.Sprintf("app:secret@tcp(%s)/demo?%s", addr, parameters))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func port(db *sql.DB) (port int, err error) {
	err = db.QueryRow("SELECT @@port").Scan(&port)
	return port, err
}

func expectPort(t *testing.T, db *sql.DB, want int) {
	t.Helper()
	if got, err := port(db); err != nil || got != want {
		t.Fatalf("got %d, %v; want %d", got, err, want)
	}
}

// expectRefusal wants the server's error with all texts in it.
func expectRefusal(t *testing.T, db *sql.DB, code uint16, texts ...string) {
	t.Helper()
	landed, err := port(db)
	var refusal *mysql.MySQLError
	if !errors.As(err, &refusal) || refusal.Number != code {
		t.Fatalf("landed on %d, %v; want error %d", landed, err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in %q", text, err)
		}
	}
}

func TestFollowsAndForgets(t *testing.T) {
	db := open(t, db1.addr("localhost"), "")
	db.SetMaxIdleConns(0)
	expectPort(t, db, db1.port)
	db1.redirects(t, "ON", db2.addr("127.0.0.1"))
	expectPort(t, db, db2.port)
	if _, err := db1.root.Exec("SET GLOBAL instant_failover_mode = OFF"); err != nil {
		t.Fatal(err)
	}
	expectPort(t, db, db1.port)
}

func TestNewConnector(t *testing.T) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = "app", "secret", "tcp", db1.addr("127.0.0.1")
	dialled := []string{}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled = append(dialled, network+" "+addr)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	connector, err := instantfailover.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db1.redirects(t, "ON", db2.addr("localhost"))
	db := sql.OpenDB(connector)
	defer db.Close()
	expectPort(t, db, db2.port)
	want := []string{"tcp " + db1.addr("127.0.0.1"), "tcp " + db2.addr("localhost")}
	if fmt.Sprint(dialled) != fmt.Sprint(want) {
		t.Errorf("dialled %v, want %v", dialled, want)
	}
	if _, is := db.Driver().(instantfailover.Driver); !is {
		t.Errorf("the driver is %T", db.Driver())
	}
}

func TestUnixSocket(t *testing.T) {
	db, err := sql.Open("instant-failover", "app:secret@unix("+db1.socket+")/demo")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(0)
	expectPort(t, db, db1.port)
	// The root connection must remain, to end this.
	db1.root.SetMaxOpenConns(1)
	defer db1.root.SetMaxOpenConns(0)
	db1.redirects(t, "ALL", db2.addr("localhost"))
	expectPort(t, db, db2.port)
}

func TestPoolThroughASwitch(t *testing.T) {
	db := open(t, db1.addr("127.0.0.1"), "")
	db.SetMaxOpenConns(8)
	limit := time.Now().Add(30 * time.Second)
	var mutex sync.Mutex
	landed, failures := map[int]int{}, 0
	var workers sync.WaitGroup
	for range 8 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for got := 0; got != db2.port && time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
				var err error
				got, err = port(db)
				mutex.Lock()
				landed[got]++
				if err != nil {
					failures++
				}
				mutex.Unlock()
			}
		}()
	}
	time.Sleep(500 * time.Millisecond)
	db1.redirects(t, "ON", db2.addr("127.0.0.1"))
	if _, err := db1.root.Exec("SET GLOBAL instant_failover_drain = ON"); err != nil {
		t.Fatal(err)
	}
	workers.Wait()
	if landed[db1.port] == 0 || landed[db2.port] != 8 {
		t.Errorf("landed on %v, %d failed", landed, failures)
	}
}

// The driver finds out that an idle connection is dead before it writes: only then may it try again.
func TestDeadConnections(t *testing.T) {
	for _, parameters := range []string{"", "tls=authority"} {
		db1.redirects(t, "ON", db2.addr("localhost"))
		db := open(t, db1.addr("localhost"), parameters)
		for range 3 {
			var id int
			if err := db.QueryRow("SELECT CONNECTION_ID()").Scan(&id); err != nil {
				t.Fatal(err)
			}
			if _, err := db2.root.Exec(fmt.Sprintf("KILL %d", id)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			if _, err := db.Exec("INSERT INTO t VALUES (1)"); err != nil {
				t.Fatalf("%s: %v", parameters, err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	// The servers 0 to 9 each redirect to the next one; 10 is db2.
	addresses := make([]string, 11)
	addresses[10] = db2.addr("127.0.0.1")
	for i := 9; i >= 0; i-- {
		addresses[i] = hostileServer(t, greeting(false), refusal(2, 4196, "|text|"+addresses[i+1])).Addr().String()
	}
	expectPort(t, open(t, addresses[2], ""), db2.port)
	expectRefusal(t, open(t, addresses[1], ""), 4196,
		"Too many instant failovers (>= 8): "+strings.Join(addresses[1:10], " -> "))

	first := standIn(t, "127.0.0.1:1")
	second := standIn(t, fmt.Sprintf("LOCALHOST:%d", first))
	standInAt := func(port int) string { return fmt.Sprintf("localhost:%d", port) }
	loop := open(t, standInAt(second), "")
	_, err := port(loop)
	if err == nil || !strings.Contains(err.Error(), "connection refused") ||
		!strings.Contains(err.Error(), fmt.Sprintf("(redirected: localhost:%d -> LOCALHOST:%d -> 127.0.0.1:1)", second, first)) {
		t.Errorf("got %v", err)
	}
	db1.redirects(t, "ON", db2.addr("localhost"))
	db2.redirects(t, "ON", db1.addr("LocalHost"))
	expectRefusal(t, open(t, db1.addr("localhost"), ""), 4196,
		"Redirect loop: "+db1.addr("localhost")+" -> "+db2.addr("localhost")+" -> "+db1.addr("LocalHost"))
}

func TestOtherErrors(t *testing.T) {
	target := db2.addr("127.0.0.1")
	for _, test := range []struct {
		code    uint16
		message string
		follows bool
	}{
		{4200, "|text|" + target, true},
		{4196, "|a|b|" + target, true},
		{4196, "text|" + target, false},
		{4196, "|" + target, false},
		{4196, "Sequence 'a.b' table structure is invalid", false},
		{1045, "|text|" + target, false},
	} {
		db := open(t, hostileServer(t, greeting(false), refusal(2, test.code, test.message)).Addr().String(), "")
		if test.follows {
			expectPort(t, db, db2.port)
			continue
		}
		landed, err := port(db)
		want := fmt.Sprintf("Error %d (HY000): %s", test.code, test.message)
		if err == nil || err.Error() != want {
			t.Errorf("landed on %d, %v; want %q", landed, err, want)
		}
	}
	malformed := hostileServer(t, greeting(false), refusal(2, 4196, "|text|"+target+"\n"))
	expectRefusal(t, open(t, malformed.Addr().String(), ""), 4196,
		"Server '"+malformed.Addr().String()+"' sent an invalid redirect target: ")

	db1.redirects(t, "ON", target)
	wrong, err := sql.Open("instant-failover", "app:wrong@tcp("+db1.addr("127.0.0.1")+")/demo")
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	expectRefusal(t, wrong, 1045, "Access denied", "(redirected: "+db1.addr("127.0.0.1")+" -> "+target+")")
}

// The error of a statement that the driver executes at the start is no redirect.
func TestErrorsOfCommands(t *testing.T) {
	for _, parameters := range []string{"", "tls=authority&"} {
		db := open(t, db1.addr("localhost"), parameters+"sql_mode=demo.redirects()")
		_, err := port(db)
		if err == nil || err.Error() != "Error 4196 (HY000): |text|db2" {
			t.Errorf("%s: got %v", parameters, err)
		}
	}
}

func TestTLS(t *testing.T) {
	var cipher struct{ name, value string }
	db := open(t, db1.addr("localhost"), "tls=authority&instantFailover=verified")
	db.SetMaxIdleConns(0)
	db1.redirects(t, "ON", db2.addr("localhost"))
	expectPort(t, db, db2.port)
	if err := db.QueryRow("SHOW STATUS LIKE 'Ssl_cipher'").Scan(&cipher.name, &cipher.value); err != nil || cipher.value == "" {
		t.Errorf("cipher %q, %v", cipher.value, err)
	}
	// The certificate is for localhost, not for 127.0.0.1: the name of each server counts, not that of the first.
	db1.redirects(t, "ON", db2.addr("127.0.0.1"))
	var wrongName x509.HostnameError
	if landed, err := port(db); !errors.As(err, &wrongName) || !strings.Contains(err.Error(), "(redirected: ") {
		t.Errorf("landed on %d, %v", landed, err)
	}
	// The same where the program gives the driver's own configuration.
	cfg, err := mysql.ParseDSN(fmt.Sprintf("app:secret@tcp(%s)/demo?tls=authority", db1.addr("localhost")))
	if err != nil {
		t.Fatal(err)
	}
	connector, err := instantfailover.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	parsed := sql.OpenDB(connector)
	defer parsed.Close()
	if landed, err := port(parsed); !errors.As(err, &wrongName) || wrongName.Host != "127.0.0.1" {
		t.Errorf("landed on %d, %v", landed, err)
	}
	// A certificate that no authority signed.
	unknown := standIn(t, db2.addr("localhost"))
	var unknownAuthority x509.UnknownAuthorityError
	if landed, err := port(open(t, fmt.Sprintf("localhost:%d", unknown), "tls=authority")); !errors.As(err, &unknownAuthority) {
		t.Errorf("landed on %d, %v", landed, err)
	}
}

func TestNoPlaintextAfterTLS(t *testing.T) {
	without := hostileServer(t, greeting(false), refusal(2, 1045, "arrived"))
	db1.redirects(t, "ON", without.Addr().String())
	for _, parameters := range []string{"tls=authority", "tls=skip-verify", "tls=preferred", "tls=preferred&instantFailover=always"} {
		_, err := port(open(t, db1.addr("localhost"), parameters))
		if !errors.Is(err, mysql.ErrNoTLS) || !strings.Contains(err.Error(), "redirected from a server with TLS to one without") {
			t.Errorf("%s: got %v", parameters, err)
		}
	}
	if sent := without.packets(); len(sent) > 0 {
		t.Errorf("sent %q", sent)
	}
	expectRefusal(t, open(t, without.Addr().String(), "tls=preferred"), 1045, "arrived")
	if len(without.packets()) != 1 {
		t.Error("the control was not seen")
	}
}

func TestTrust(t *testing.T) {
	db1.redirects(t, "ON", db2.addr("localhost"))
	for _, test := range []struct{ environment, parameters, objection string }{
		{"", "", ""},
		{"", "instantFailover=AUTO", ""},
		{"", "tls=skip-verify", ""},
		{"never", "", "|" + db2.addr("localhost")},
		{"always", "instantFailover=0", "|" + db2.addr("localhost")},
		{"never", "instantFailover=always", ""},
		{"verified", "tls=authority", ""},
		{"verified", "tls=skip-verify", "(not followed: the server's certificate is not verified (INSTANT_FAILOVER_FOLLOW=verified); "},
		{"", "instantFailover=verified", "(not followed: the connection has no TLS (instantFailover=verified); "},
		{"yes", "", "(not followed: INSTANT_FAILOVER_FOLLOW is 'yes'; give never, verified, auto or always)"},
		{"", "instantFailover=", "(not followed: instantFailover is ''; give never, verified, auto or always)"},
	} {
		t.Setenv("INSTANT_FAILOVER_FOLLOW", test.environment)
		db := open(t, db1.addr("localhost"), test.parameters)
		if test.objection == "" {
			expectPort(t, db, db2.port)
			continue
		}
		expectRefusal(t, db, 4196, test.objection)
		if isNoted := strings.Contains(test.objection, "not followed"); !isNoted {
			_, err := port(db)
			if !strings.HasSuffix(err.Error(), test.objection) {
				t.Errorf("the server's error is not as it was: %v", err)
			}
		}
	}
	// What the program verifies itself is verified.
	for _, verify := range []error{nil, errors.New("another fingerprint")} {
		cfg, err := mysql.ParseDSN("app:secret@tcp(" + db1.addr("localhost") + ")/demo?instantFailover=verified")
		if err != nil {
			t.Fatal(err)
		}
		cfg.TLS = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return verify }}
		connector, err := instantfailover.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		if landed, err := port(db); !errors.Is(err, verify) || verify == nil && landed != db2.port {
			t.Errorf("landed on %d, %v", landed, err)
		}
		_ = db.Close()
	}
}

// A program can change its configuration as late as this.
func TestBeforeConnect(t *testing.T) {
	db1.redirects(t, "ON", db2.addr("localhost"))
	cfg := mysql.NewConfig()
	cfg.Addr, cfg.User, cfg.Passwd = "nowhere.invalid:1", "app", "secret"
	config := &tls.Config{InsecureSkipVerify: true}
	err := cfg.Apply(mysql.BeforeConnect(func(_ context.Context, cfg *mysql.Config) error {
		cfg.Addr, cfg.TLS = db1.addr("127.0.0.1"), config
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	for follow, want := range map[string]int{"auto": 0, "always": db2.port} {
		cfg.Params = map[string]string{"instantFailover": follow}
		connector, err := instantfailover.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		if want == 0 {
			expectRefusal(t, db, 4196, "not followed: the server's certificate is not verified")
		} else {
			expectPort(t, db, want)
		}
		_ = db.Close()
	}
}

// What comes before TLS, anyone on the network can have sent.
func TestErrorsBeforeTLS(t *testing.T) {
	message := "|text|" + db2.addr("localhost")
	instead := hostileServer(t, refusal(0, 4196, message), []byte{0})
	for _, parameters := range []string{"", "instantFailover=always", "tls=skip-verify", "tls=authority&instantFailover=always", "tls=preferred"} {
		expectRefusal(t, open(t, instead.Addr().String(), parameters), 4196, message, "in place of its greeting")
	}
	after := hostileServer(t, greeting(true), refusal(2, 4196, message))
	together := hostileServer(t, append(greeting(true), refusal(1, 4196, message)...), []byte{0})
	for _, h := range []*hostile{after, together} {
		for _, parameters := range []string{"tls=skip-verify", "tls=preferred", "tls=authority&instantFailover=always"} {
			if landed, err := port(open(t, h.Addr().String(), parameters)); err == nil {
				t.Errorf("%s: landed on %d", parameters, landed)
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	silent := hostileServer(t, greeting(false), nil)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // it sends no greeting
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, target := range []string{silent.Addr().String(), mute.Addr().String()} {
		db1.redirects(t, "ON", target)
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		err := open(t, db1.addr("127.0.0.1"), "").PingContext(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "(redirected: ") {
			t.Errorf("%s: got %v", target, err)
		}
	}
	// The driver's timeout is for dialling; all servers share it.
	dials := 0
	cfg := mysql.NewConfig()
	cfg.Addr, cfg.Timeout = db1.addr("127.0.0.1"), 2*time.Second
	left := []time.Duration{}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		deadline, _ := ctx.Deadline()
		left = append(left, time.Until(deadline))
		if dials++; dials == 1 {
			time.Sleep(500 * time.Millisecond)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	db1.redirects(t, "ON", db2.addr("127.0.0.1"))
	connector, err := instantfailover.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connector.Connect(context.Background()); err == nil || len(left) != 2 || left[1] > 1500*time.Millisecond {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestNothingLeaks(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	target := db2.addr("localhost")
	instead := hostileServer(t, refusal(0, 4196, "|text|"+target), []byte{0})
	malformed := hostileServer(t, greeting(false), refusal(2, 4196, "|text|"+target+" "))
	db1.redirects(t, "ON", target)
	attempts := func() {
		for _, addr := range []string{db1.addr("localhost"), instead.Addr().String(), malformed.Addr().String()} {
			for _, parameters := range []string{"", "tls=authority", "tls=skip-verify&instantFailover=verified"} {
				db := open(t, addr, parameters)
				_, _ = port(db)
				_ = db.Close()
			}
		}
	}
	attempts()
	before := descriptors()
	for range 20 {
		attempts()
	}
	time.Sleep(200 * time.Millisecond)
	if after := descriptors(); after > before+5 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestWrongConfigurations(t *testing.T) {
	for dsn, text := range map[string]string{
		"app@tunnel(db1:3306)/":    `network "tunnel" has a dial function of its own`,
		"app@tcp(db1)/?tls=absent": "unknown config name: absent",
		"app@tcp(db1":              "invalid DSN",
	} {
		db, err := sql.Open("instant-failover", dsn)
		if err == nil {
			_ = db.Close()
			t.Errorf("%s was accepted", dsn)
		} else if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
	mysql.RegisterDialContext("tunnel", func(context.Context, string) (net.Conn, error) { return nil, errors.New("called") })
	defer mysql.DeregisterDialContext("tunnel")
	if db, err := sql.Open("instant-failover", "app@tunnel(db1:3306)/"); err == nil {
		_ = db.Close()
		t.Error("a network that cannot reach a target was accepted")
	}
}
