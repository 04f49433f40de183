// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"dkms-go/internal/durable"
)

// Membership is how a host speaks to its hub: the file that Save writes.
type Membership struct {
	// URL is that of the hub, such as https://hub.example.org:8443, Name the host's.
	URL  string `json:"url"`
	Name string `json:"name"`
	// Authority is the certificate that the hub's must be signed by, in PEM; "" for
	// those that the machine trusts.
	Authority string `json:"authority,omitempty"`
	Token     string `json:"token"`
}

// ErrNoHub says that the host isn't enrolled.
var ErrNoHub = errors.New("this host is enrolled at no hub")

// Load reads a membership; the error is ErrNoHub if there is none.
func Load(file string) (Membership, error) {
	var m Membership
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, ErrNoHub
	}
	if err != nil {
		return m, fmt.Errorf("reading how to speak to the hub: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("reading %s: %w", file, err)
	}
	if _, err := m.client(); err != nil {
		return m, fmt.Errorf("reading %s: %w", file, err)
	}
	return m, nil
}

// Save writes a membership for root alone to read.
func (m Membership) Save(file string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(file, append(text, '\n'), 0o600)
}

// answerTime bounds how long the hub may take, maxAnswer what it may say in bytes.
const (
	answerTime = 30 * time.Second
	maxAnswer  = 1 << 20
)

// client returns what speaks to the hub, and to nobody else: by TLS, and without
// following the answer to another place.
func (m Membership) client() (*http.Client, error) {
	u, err := url.Parse(m.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.200q is not the address of a hub, such as https://hub.example.org:8443", m.URL)
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.Authority != "" {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM([]byte(m.Authority)) {
			return nil, errors.New("the hub's authority is no certificate in PEM")
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = settings
	return &http.Client{
		Transport: transport, Timeout: answerTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// At reports whether the hub is at a host and port.
func (m Membership) At(host string) bool {
	u, err := url.Parse(m.URL)
	return err == nil && u.Host == host
}

// Enrol uses up a code, and sets the token.
func (m *Membership) Enrol(ctx context.Context, code string) error {
	if err := CheckName(m.Name); err != nil {
		return fmt.Errorf("the name %.80q %w", m.Name, err)
	}
	var got Enrolled
	if err := m.post(ctx, "/api/v1/enrol", Enrolment{Code: code, Name: m.Name}, &got); err != nil {
		return err
	}
	if got.Token == "" {
		return fmt.Errorf("the hub %s answered without a token", m.URL)
	}
	m.Token = got.Token
	return nil
}

// Report tells the hub what the host has.
func (m Membership) Report(ctx context.Context, r Report) error {
	return m.post(ctx, "/api/v1/report", r, nil)
}

// Refusal is the error of a hub that was reached and has said no.
type Refusal struct{ URL, Text, Status string }

func (r *Refusal) Error() string {
	return fmt.Sprintf("the hub %s refused: %s (%s)", r.URL, r.Text, r.Status)
}

// post sends a value, and reads the answer into another one, if that isn't nil.
func (m Membership) post(ctx context.Context, path string, what, into any) error {
	client, err := m.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(m.URL, "/")+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if m.Token != "" {
		r.Header.Set("Authorization", "Bearer "+m.Token)
	}
	answer, err := client.Do(r)
	if err != nil {
		return m.unreachable(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return m.unreachable(err)
	}
	if answer.StatusCode/100 != 2 {
		var told struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(text, &told) != nil || told.Error == "" {
			told.Error = "it is no hub, or there is something in between"
		}
		return &Refusal{m.URL, told.Error, answer.Status}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the hub %s answered what can't be read: %w", m.URL, err)
	}
	return nil
}

// unreachable says why the hub can't be reached, without the request.
func (m Membership) unreachable(err error) error {
	var what *url.Error
	if errors.As(err, &what) {
		err = what.Err
	}
	var stranger x509.UnknownAuthorityError
	if errors.As(err, &stranger) && m.Authority == "" {
		return fmt.Errorf("the hub %s has a certificate that this machine doesn't trust (%w): give the one of its own authority with --ca, tls/ca.crt of its data directory", m.URL, err)
	}
	if errors.As(err, &stranger) {
		return fmt.Errorf("the hub %s has a certificate by another authority than the one that is pinned: %w", m.URL, err)
	}
	return fmt.Errorf("the hub %s can't be reached: %w", m.URL, err)
}
