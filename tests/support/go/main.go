// Asks Go's own checksum-database packages what they think of our notes, proofs and tiles.
//
// A JSON list of questions comes in on standard input, a JSON list of answers goes out.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type head struct {
	Size int64
	Root tlog.Hash
}

func (h head) tree() tlog.Tree { return tlog.Tree{N: h.Size, Hash: h.Root} }

type question struct {
	Ask     string
	Keys    []string // of operator or witness
	Note    []byte
	Text    string
	Index   int64
	Leaf    []byte
	Path    []tlog.Hash
	Old     head
	Head    head
	Folder  string
	Private string
}

type answer struct {
	Error string      `json:"error"`
	Text  string      `json:"text"`
	Names []string    `json:"names"`
	Note  []byte      `json:"note"`
	Path  []tlog.Hash `json:"path"`
}

// witness verifies cosignature/v1 lines, which the note package leaves to others.
type witness struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.id }

func (w witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
	return ed25519.Verify(w.key, []byte(message), signature[8:])
}

func verifier(text string) (note.Verifier, error) {
	parts := strings.SplitN(text, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || raw[0] != 4 {
		return note.NewVerifier(text)
	}
	id := sha256.Sum256([]byte(parts[0] + "\n" + string(raw)))
	return witness{parts[0], binary.BigEndian.Uint32(id[:]), raw[1:]}, nil
}

// folder reads tiles by their paths, in which we leave out the height.
type folder string

func (f folder) Height() int                     { return 8 }
func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) (all [][]byte, err error) {
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", path, len(data))
		}
		all = append(all, data)
	}
	return all, nil
}

func open(q question) (a answer, err error) {
	var known []note.Verifier
	for _, key := range q.Keys {
		v, err := verifier(key)
		if err != nil {
			return a, err
		}
		known = append(known, v)
	}
	n, err := note.Open(q.Note, note.VerifierList(known...))
	if err != nil {
		return a, err
	}
	for _, signature := range n.Sigs {
		a.Names = append(a.Names, signature.Name)
	}
	a.Text = n.Text
	return a, nil
}

func sign(q question) (a answer, err error) {
	signer, err := note.NewSigner(q.Private)
	if err != nil {
		return a, err
	}
	a.Note, err = note.Sign(&note.Note{Text: q.Text}, signer)
	return a, err
}

func checkRecord(q question, path tlog.RecordProof) error {
	return tlog.CheckRecord(path, q.Head.Size, q.Head.Root, q.Index, tlog.RecordHash(q.Leaf))
}

func checkTree(q question, path tlog.TreeProof) error {
	return tlog.CheckTree(path, q.Head.Size, q.Head.Root, q.Old.Size, q.Old.Root)
}

// reply also checks the proofs that it made out of tiles: before golang.org/x/mod v0.40.0 a full
// tile may come through unchecked (CVE-2026-56865).
func reply(q question) (a answer, err error) {
	tiles := tlog.TileHashReader(q.Head.tree(), folder(q.Folder))
	switch q.Ask {
	case "open":
		return open(q)
	case "sign":
		return sign(q)
	case "check record":
		return a, checkRecord(q, q.Path)
	case "check tree":
		return a, checkTree(q, q.Path)
	case "prove record":
		if a.Path, err = tlog.ProveRecord(q.Head.Size, q.Index, tiles); err != nil {
			return a, err
		}
		return a, checkRecord(q, a.Path)
	case "prove tree":
		if a.Path, err = tlog.ProveTree(q.Head.Size, q.Old.Size, tiles); err != nil {
			return a, err
		}
		return a, checkTree(q, a.Path)
	}
	return a, fmt.Errorf("unknown question %q", q.Ask)
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, q := range questions {
		a, err := reply(q)
		if err != nil {
			a.Error = err.Error()
		}
		answers = append(answers, a)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
