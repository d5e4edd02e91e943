// Verifier checks a ledger with Go's own transparency-log code, which shares nothing with
// opam-keep but the specification.
//
// Usage: verifier VKEY LEDGER_DIR [OLD_CHECKPOINT]...
//
//	verifier VKEY PROOF
//
// Of a ledger it checks the checkpoint's signature, every entry against the hash tiles, the tree's
// root hash, inclusion proofs, and, given older checkpoints, the proof that the ledger only grew since
// each. Of a proof it prints the entry that is proved.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// height is that of tlog-tiles: tiles are 256 hashes wide.
const height = 8

// provenInFull is the largest ledger of which every single entry's inclusion is proved.
const provenInFull = 2000

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: verifier VKEY LEDGER_DIR [OLD_CHECKPOINT]...\n       verifier VKEY PROOF")
		os.Exit(2)
	}
	if info, err := os.Stat(os.Args[2]); err == nil && info.Mode().IsRegular() {
		entry, err := verifyProof(os.Args[1], os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%s\n", entry)
		return
	}
	tree, err := verify(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("ok: %d entries, root %s\n", tree.N, tree.Hash)
}

func verify(vkey, directory string, old []string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	tree, err := readCheckpoint(filepath.Join(directory, "checkpoint"), verifier)
	if err != nil {
		return tree, err
	}
	hashes := tlog.TileHashReader(tree, tiles{directory, tree.N})
	if err := verifyEntries(directory, tree, hashes); err != nil {
		return tree, err
	}
	for _, path := range old {
		before, err := readCheckpoint(path, verifier)
		if err != nil {
			return tree, err
		}
		proof, err := tlog.ProveTree(tree.N, before.N, hashes)
		if err != nil {
			return tree, err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

// verifyEntries checks each entry's hash, and that it is in the tree.
func verifyEntries(directory string, tree tlog.Tree, hashes tlog.HashReader) error {
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the tiles do not add up to the checkpoint's root hash")
	}
	step := tree.N/1000 + 1
	if tree.N <= provenInFull {
		step = 1
	}
	for first := int64(0); first < tree.N; first += 1 << height {
		entries, err := readBundle(directory, first, tree.N)
		if err != nil {
			return err
		}
		// A tile is checked against the root each time that it is read, so all of it is read at once.
		leaves := make([]int64, len(entries))
		for offset := range entries {
			leaves[offset] = tlog.StoredHashIndex(0, first+int64(offset))
		}
		stored, err := hashes.ReadHashes(leaves)
		if err != nil {
			return err
		}
		for offset, entry := range entries {
			index := first + int64(offset)
			hash := tlog.RecordHash(entry)
			if stored[offset] != hash {
				return fmt.Errorf("entry %d is not what its tile says", index)
			}
			if index%step != 0 && index != tree.N-1 {
				continue
			}
			proof, err := tlog.ProveRecord(tree.N, index, hashes)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, hash); err != nil {
				return fmt.Errorf("entry %d: %v", index, err)
			}
		}
	}
	return nil
}

func readCheckpoint(path string, verifier note.Verifier) (tlog.Tree, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(path, bytes, verifier)
}

func openCheckpoint(path string, bytes []byte, verifier note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	signed, err := note.Open(bytes, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("%s: %v", path, err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("%s: no checkpoint of %s", path, verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tree, fmt.Errorf("%s: %v", path, err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tree, fmt.Errorf("%s: no root hash", path)
	}
	tree.N = size
	copy(tree.Hash[:], root)
	return tree, nil
}

// readBundle reads the entries from index first on: each after its length in two bytes.
func readBundle(directory string, first, size int64) ([][]byte, error) {
	width := size - first
	if width > 1<<height {
		width = 1 << height
	}
	path := filepath.Join(directory, tilePath("entries", first>>height, int(width)))
	bytes, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(bytes) > 0 {
		if len(bytes) < 2 || len(bytes)-2 < int(binary.BigEndian.Uint16(bytes)) {
			return nil, fmt.Errorf("%s ends within an entry", path)
		}
		end := 2 + int(binary.BigEndian.Uint16(bytes))
		entries, bytes = append(entries, bytes[2:end]), bytes[end:]
	}
	if int64(len(entries)) != width {
		return nil, fmt.Errorf("%s has %d entries instead of %d", path, len(entries), width)
	}
	return entries, nil
}

// tiles reads hash tiles from disk for Go's hash reader.
type tiles struct {
	directory string
	size      int64
}

func (t tiles) Height() int { return height }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		path := tilePath(strconv.Itoa(tile.L), tile.N, tile.W)
		bytes, err := os.ReadFile(filepath.Join(t.directory, path))
		if errors.Is(err, os.ErrNotExist) {
			// Go also asks for narrower tiles than the checkpoint's; those are cut from them.
			bytes, err = t.cut(tile)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

func (t tiles) cut(tile tlog.Tile) ([]byte, error) {
	width := t.size>>(height*uint(tile.L)) - tile.N<<height
	if width > 1<<height {
		width = 1 << height
	}
	bytes, err := os.ReadFile(filepath.Join(t.directory, tilePath(strconv.Itoa(tile.L), tile.N, int(width))))
	if err != nil || len(bytes) < tile.W*tlog.HashSize {
		return nil, fmt.Errorf("tile %s: missing or short", tile.Path())
	}
	return bytes[:tile.W*tlog.HashSize], nil
}

// tilePath is where tlog-tiles puts a tile; unlike the checksum database's, without the height.
func tilePath(level string, index int64, width int) string {
	path := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if width < 1<<height {
		path = fmt.Sprintf("%s.p/%d", path, width)
	}
	return "tile/" + level + "/" + path
}
