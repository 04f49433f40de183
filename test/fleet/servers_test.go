// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// name is that of the servers' machine: one that isn't called localhost, so that TLS is
// asked for.
const name = "fleet.test"

// authority makes a certificate for the servers, and returns the files of it, of its key,
// and of the certificate of who has issued it.
func authority(t *testing.T) (cert, key, ca string) {
	t.Helper()
	dir := t.TempDir()
	write := func(file, kind string, der []byte) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	must := func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca = write("ca.pem", "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)))
	cert = write("cert.pem", "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, server, issuer, serverKey.Public(), issuerKey)))
	key = write("key.pem", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(serverKey)))
	return cert, key, ca
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// serve runs a server until the test ends.
func serve(t *testing.T, port string, argv ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run: scripts/deps.sh", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	t.Fatalf("%s doesn't listen:\n%s", argv[0], said.String())
}

// website serves a directory by nginx, and returns its port and the log of requests.
func website(t *testing.T, dir, cert, key string) (port, log string) {
	t.Helper()
	port, own := freePort(t), t.TempDir()
	log = filepath.Join(own, "access.log")
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}
http {
  access_log %[1]s/access.log; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen 127.0.0.1:%[2]s ssl; ssl_certificate %[3]s; ssl_certificate_key %[4]s; root %[5]s; }
}
`, own, port, cert, key, dir)
	file := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	serve(t, port, "/usr/sbin/nginx", "-c", file, "-e", "stderr")
	return port, log
}

// registry runs Debian's docker-registry, and returns its port.
func registry(t *testing.T, cert, key string) string {
	t.Helper()
	port, own := freePort(t), t.TempDir()
	conf := fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "127.0.0.1:%s", tls: {certificate: %s, key: %s}}
`, own, port, cert, key)
	file := filepath.Join(own, "config.yml")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	serve(t, port, "/usr/bin/docker-registry", "serve", file)
	return port
}
