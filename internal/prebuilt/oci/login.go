// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/prebuilt"
	"dkms-go/internal/untrusted"
)

// maxConfig bounds the file with passwords, and an answer of a token server, in bytes.
const maxConfig = 1 << 20

// ConfigFile returns where docker and podman keep passwords by an environment: in
// $DOCKER_CONFIG, or .docker of the home directory. It is "" if there is none.
func ConfigFile(lookup func(name string) string) string {
	dir := lookup("DOCKER_CONFIG")
	if home := lookup("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".docker")
	}
	file := filepath.Join(dir, "config.json")
	if _, err := os.Stat(file); dir == "" || err != nil {
		return ""
	}
	return file
}

// Passwords returns what looks a registry's user up in such a file, "" for none. Programs
// that it names for passwords aren't run.
func Passwords(file string) func(host string) (user, password string) {
	return func(host string) (string, string) {
		text, err := untrusted.ReadLinked(file, maxConfig)
		if file == "" || err != nil {
			return "", ""
		}
		var config struct {
			Auths map[string]struct {
				Auth string `json:"auth"`
			} `json:"auths"`
		}
		if json.Unmarshal(text, &config) != nil {
			return "", ""
		}
		for _, name := range []string{host, "https://" + host, "https://" + host + "/v2/"} {
			pair, err := base64.StdEncoding.DecodeString(config.Auths[name].Auth)
			if user, password, ok := strings.Cut(string(pair), ":"); err == nil && ok {
				return user, password
			}
		}
		return "", ""
	}
}

// logIn gets what the registry asks for by a challenge: a password, or a token of the
// server that it names (distribution's documentation, "Token Authentication").
func (r *repository) logIn(ctx context.Context, challenge string, write bool) error {
	scheme, rest, _ := strings.Cut(challenge, " ")
	user, password := r.password(r.base.Host)
	basic := ""
	if user != "" {
		basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	allow := basic
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		var err error
		if allow, err = r.token(ctx, parameters(rest), basic, write); err != nil {
			return err
		}
	case !strings.EqualFold(scheme, "Basic"):
		return fmt.Errorf("the registry asks for %.100q, which isn't known here", scheme)
	case basic == "":
		return errors.New("the registry asks for a password, and none is known here: docker login")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if allow == r.allow {
		return errors.New("the registry doesn't allow it")
	}
	r.allow = allow
	return nil
}

// token asks a token server. It is given the password only where nobody else can listen.
func (r *repository) token(ctx context.Context, challenge map[string]string, basic string, write bool) (string, error) {
	realm, err := url.Parse(challenge["realm"])
	if err != nil || realm.Scheme != "https" && !(realm.Scheme == "http" && prebuilt.Loopback(realm) && prebuilt.Loopback(r.base)) {
		return "", fmt.Errorf("the registry names the token server %.200q, which isn't https", challenge["realm"])
	}
	actions := "pull"
	if write {
		actions = "pull,push"
	}
	q := realm.Query()
	q.Set("service", challenge["service"])
	q.Set("scope", "repository:"+r.name+":"+actions)
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", err
	}
	if basic != "" {
		req.Header.Set("Authorization", basic)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	text, err := read(res, maxConfig)
	if err != nil {
		return "", err
	}
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &answer); res.StatusCode != http.StatusOK || err != nil || answer.Token+answer.Access == "" {
		return "", fmt.Errorf("the token server %s gives none: %s", realm.Host, res.Status)
	}
	if answer.Token == "" {
		answer.Token = answer.Access
	}
	return "Bearer " + answer.Token, nil
}

// parameters reads name="value" pairs behind a scheme (RFC 9110, section 11.6.1).
func parameters(text string) map[string]string {
	all := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		value := ""
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		all[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		text = rest
	}
	return all
}
