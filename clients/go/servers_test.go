package instantfailover_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// The servers of all tests: two of MariaDB with the plugin, and certificates for the name localhost.
var (
	db1, db2  *server
	directory string
	authority *x509.CertPool
)

func TestMain(m *testing.M) {
	code, err := withServers(m.Run)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func withServers(run func() int) (code int, err error) {
	for _, name := range []string{"INSTANT_FAILOVER_SO", "INSTANT_FAILOVER_STANDIN"} {
		if _, err := os.Stat(os.Getenv(name)); err != nil {
			return 0, fmt.Errorf("%s must be the path of the built file: %w", name, err)
		}
	}
	if directory, err = os.MkdirTemp("", "if-go-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(directory)
	if err := makeCertificates(); err != nil {
		return 0, err
	}
	servers := make([]*server, 2)
	for i := range servers {
		if servers[i], err = startMariaDB(fmt.Sprintf("db%d", i+1)); err != nil {
			return 0, err
		}
		defer servers[i].stop()
	}
	db1, db2 = servers[0], servers[1]
	if err := mysql.RegisterTLSConfig("authority", &tls.Config{RootCAs: authority}); err != nil {
		return 0, err
	}
	return run(), nil
}

type server struct {
	port    int
	socket  string
	process *exec.Cmd
	// root is a connection over the socket, which mode ON does not redirect.
	root *sql.DB
}

func (s *server) addr(host string) string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

func startMariaDB(name string) (*server, error) {
	home := filepath.Join(directory, name)
	data, plugins := filepath.Join(home, "data"), filepath.Join(home, "plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		return nil, err
	}
	library, err := os.ReadFile(os.Getenv("INSTANT_FAILOVER_SO"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(plugins, "instant_failover.so"), library, 0o755); err != nil {
		return nil, err
	}
	install := exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+data,
		"--auth-root-authentication-method=normal", "--skip-test-db")
	if output, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, output)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{port: port, socket: filepath.Join(home, "s")}
	arguments := []string{"--no-defaults", "--datadir=" + data, "--socket=" + s.socket, "--port=" + strconv.Itoa(port),
		"--bind-address=127.0.0.1", "--plugin-dir=" + plugins, "--plugin-load-add=instant_failover",
		"--innodb-buffer-pool-size=32M", "--log-error=" + filepath.Join(home, "log"),
		"--ssl-cert=" + filepath.Join(directory, "server.pem"), "--ssl-key=" + filepath.Join(directory, "server.key")}
	if os.Getuid() == 0 {
		arguments = append(arguments, "--user=root")
	}
	s.process = exec.Command("mariadbd", arguments...)
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	if s.root, err = sql.Open("mysql", "root@unix("+s.socket+")/"); err != nil {
		return nil, err
	}
	_ = mysql.SetLogger(&mysql.NopLogger{})
	for start := time.Now(); s.root.Ping() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			s.stop()
			return nil, fmt.Errorf("%s did not start: %w", name, s.root.Ping())
		}
	}
	for _, statement := range []string{
		"CREATE USER app IDENTIFIED BY 'secret'", "GRANT ALL ON *.* TO app", "CREATE DATABASE demo",
		"CREATE TABLE demo.t (id BIGINT)",
		`CREATE FUNCTION demo.redirects() RETURNS TEXT BEGIN
			SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|text|db2'; RETURN ''; END`,
	} {
		if _, err := s.root.Exec(statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return s, nil
}

// redirects makes the server redirect to target until the end of the test.
func (s *server) redirects(t *testing.T, mode, target string) {
	t.Helper()
	_, err := s.root.Exec(fmt.Sprintf(
		"SET GLOBAL instant_failover_target = '%s', instant_failover_mode = %s", target, mode))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := s.root.Exec("SET GLOBAL instant_failover_mode = OFF"); err != nil {
			t.Error(err)
		}
	})
}

// standIn starts a stand-in that redirects, and returns its port.
func standIn(t *testing.T, target string, options ...string) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(os.Getenv("INSTANT_FAILOVER_STANDIN"), append(options,
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--instant-failover-mode=ON",
		"--instant-failover-target="+target)...)
	var output bytes.Buffer
	process.Stderr = &output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return port
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the stand-in did not start: %v", err)
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

func makeCertificates() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	authority = x509.NewCertPool()
	authority.AddCert(root)
	if der, err = x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key); err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"server.pem": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
