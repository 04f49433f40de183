// SPDX-License-Identifier: Apache-2.0

// Package web has prebuilts on a web server, which need do nothing but hand out files:
// one bundle per key, in the places that package dir has them.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"dkms-go/internal/dsse"
	"dkms-go/internal/prebuilt"
)

// How long a server may take to be reached, and to begin an answer; and how long an
// answer may take as a whole. Hooks of packages wait for it.
const (
	connectTime = 5 * time.Second
	answerTime  = 20 * time.Second
	wholeTime   = 15 * time.Minute
)

// maxRedirects bounds how often a server may send on.
const maxRedirects = 3

// Client returns a client for sources of prebuilts. authorities has the certificates (PEM)
// that servers' ones must be issued by, nil stands for those of the system. userAgent
// names the program.
func Client(authorities []byte, userAgent string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if authorities != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("there is no certificate in PEM")
		}
	}
	dialer := &net.Dialer{Timeout: connectTime}
	return &http.Client{
		Timeout: wholeTime,
		Transport: named{userAgent, &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: connectTime,
			ResponseHeaderTimeout: answerTime, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		}},
		CheckRedirect: sentOn,
	}, nil
}

// sentOn follows a few times, and never to where others can listen.
func sentOn(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("it is sent on too often")
	case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("it is sent on from https to another scheme")
	}
	return nil
}

// named sends the program's name with each request.
type named struct {
	agent string
	below http.RoundTripper
}

func (n named) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", n.agent)
	return n.below.RoundTrip(req)
}

// Source is an address below which bundles are.
type Source struct {
	URL    *url.URL
	Client *http.Client
}

func (s Source) String() string { return s.URL.String() }

// Fetch asks for a bundle, by one request.
func (s Source) Fetch(ctx context.Context, q prebuilt.Query, trusted []dsse.Key) (*prebuilt.Bundle, error) {
	place := q.Place()
	for i := range place {
		place[i] = url.PathEscape(place[i])
	}
	at := s.URL.JoinPath(place...)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", s, err)
	}
	req.Header.Set("Accept-Encoding", "identity") // it is compressed
	res, err := s.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", s, short(err))
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, prebuilt.ErrNone
	default:
		return nil, fmt.Errorf("asking %s: it answers %s", s, res.Status)
	}
	b, err := q.Read(io.LimitReader(res.Body, prebuilt.MaxTotal), trusted)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return b, nil
}

// short is an error of a request without the address, which is said anyway.
func short(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
