// A registry of another make than distribution's: Google's go-containerregistry, with TLS and a login before it.
//
//	otherregistry ADDRESS FOLDER [CERTIFICATE KEY [USER PASSWORD [CLIENT-CA]]]
//
// With a CLIENT-CA, who has no certificate signed by it can't connect.
package main

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	arguments := append(os.Args[1:], make([]string, 7)...)
	address, folder, certificate, key := arguments[0], arguments[1], arguments[2], arguments[3]
	user, password, clients := arguments[4], arguments[5], arguments[6]
	server := &http.Server{
		Addr:    address,
		Handler: guarded(registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(folder))), user, password),
	}
	if clients != "" {
		pool := x509.NewCertPool()
		pem, err := os.ReadFile(clients)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			log.Fatalf("no certificates in %s: %v", clients, err)
		}
		server.TLSConfig = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if certificate == "" {
		log.Fatal(server.ListenAndServe())
	}
	log.Fatal(server.ListenAndServeTLS(certificate, key))
}

func guarded(inner http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		log.Printf("%s %s", request.Method, request.URL.RequestURI())
		gotUser, gotPassword, _ := request.BasicAuth()
		if user != "" && (subtle.ConstantTimeCompare([]byte(gotUser), []byte(user)) != 1 ||
			subtle.ConstantTimeCompare([]byte(gotPassword), []byte(password)) != 1) {
			answer.Header().Set("WWW-Authenticate", `Basic realm="other"`)
			answer.Header().Set("Content-Type", "application/json")
			answer.WriteHeader(http.StatusUnauthorized)
			_, _ = answer.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}`))
			return
		}
		inner.ServeHTTP(answer, request)
	})
}
