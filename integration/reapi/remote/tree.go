package remote

import (
	"context"
	"fmt"
	"slices"

	"github.com/sbx-action/sbx-action/action"
)

// A TreeReport says what [Client.DownloadTree] did.
type TreeReport struct {
	Directories, DirectoriesRead int // of the tree, each once; and of them those that were fetched
	Files, FilesRead             int
	BytesRead                    int64

	// Whole are the directories that are in the store now, with everything
	// below them; those that were known to be are not among them.
	Whole []action.Digest
}

// TreeOptions are for a store that lives.
type TreeOptions struct {
	// Reserve, where not nil, is told how many bytes the files will take on a
	// disk, and may refuse.
	Reserve func(int64) error

	// Known, where not nil, says that a directory is in the store with
	// everything below it, so that nobody need look.
	Known func(action.Digest) bool
}

// DownloadTree sees to it that dst has the Directory root and everything that
// it names, level by level: each level's directories in as few messages as
// possible, and all files at once. A missing blob gives a [MissingError] that
// names every one that could be found to be missing.
func (c *Client) DownloadTree(ctx context.Context, dst Store, root action.Digest, o TreeOptions) (*TreeReport, error) {
	report := &TreeReport{}
	var missing []action.Digest
	isDir, isFile := map[action.Digest]bool{root: true}, map[action.Digest]bool{}
	var files []action.Digest
	var total int64
	for level := []action.Digest{root}; len(level) > 0; {
		if o.Known != nil {
			level = slices.DeleteFunc(level, o.Known)
		}
		report.Directories += len(level)
		report.Whole = append(report.Whole, level...)
		fetch := lacking(ctx, dst, level)
		report.DirectoriesRead += len(fetch)
		lost, err := c.downloadSome(ctx, dst, fetch)
		if err != nil {
			return report, err
		}
		missing = append(missing, lost...)
		var next []action.Digest
		for _, d := range level {
			if slices.Contains(lost, d) {
				continue
			}
			dir, err := readDirectory(ctx, dst, d)
			if err != nil {
				return report, err
			}
			for i := range dir.Directories {
				add(&next, isDir, dir.Directories[i].Digest)
			}
			for i := range dir.Files {
				add(&files, isFile, dir.Files[i].Digest)
			}
		}
		level = next
	}
	report.Files = len(files)
	fetch := lacking(ctx, dst, files)
	report.FilesRead = len(fetch)
	for _, d := range fetch {
		report.BytesRead += d.Size()
		total += (d.Size() + blockSize - 1) / blockSize * blockSize
	}
	if o.Reserve != nil {
		if err := o.Reserve(total); err != nil {
			return report, err
		}
	}
	lost, err := c.downloadSome(ctx, dst, fetch)
	if err != nil {
		return report, err
	}
	if missing = append(missing, lost...); len(missing) > 0 {
		return report, &MissingError{missing}
	}
	return report, nil
}

// blockSize is what the smallest file takes on a disk.
const blockSize = 4096

// downloadSome is Download, but that blobs are missing is no error.
func (c *Client) downloadSome(ctx context.Context, dst Store, digests []action.Digest) (missing []action.Digest, err error) {
	err = c.Download(ctx, dst, digests)
	if m, ok := err.(*MissingError); ok {
		return m.Digests, nil
	}
	return nil, err
}

// A MalformedError says that a blob is not the message that it should be.
type MalformedError struct {
	Digest action.Digest
	Err    error
}

func (e *MalformedError) Error() string { return fmt.Sprintf("blob %v: %v", e.Digest, e.Err) }
func (e *MalformedError) Unwrap() error { return e.Err }

// messageMax is the largest message that is read into memory.
const messageMax = 64 << 20

// ReadMessage reads a blob of src that is a message.
func ReadMessage(ctx context.Context, src Source, d action.Digest) ([]byte, error) {
	if d.Size() > messageMax {
		return nil, &MalformedError{d, fmt.Errorf("%d bytes are too many for a message", d.Size())}
	}
	return read(ctx, src, d)
}

func readDirectory(ctx context.Context, src Source, d action.Digest) (*action.Directory, error) {
	data, err := ReadMessage(ctx, src, d)
	if err != nil {
		return nil, err
	}
	dir, err := action.ParseDirectory(data, d.Function())
	if err != nil {
		return nil, &MalformedError{d, err}
	}
	return dir, nil
}

// UploadTree sees to it that the server has the Directory root, which src has
// whole, and everything that it names.
func (c *Client) UploadTree(ctx context.Context, src Source, root action.Digest) error {
	dirs, isDir := []action.Digest{root}, map[action.Digest]bool{root: true}
	var files []action.Digest
	isFile := map[action.Digest]bool{}
	for next := 0; next < len(dirs); next++ {
		dir, err := readDirectory(ctx, src, dirs[next])
		if err != nil {
			return err
		}
		for i := range dir.Directories {
			add(&dirs, isDir, dir.Directories[i].Digest)
		}
		for i := range dir.Files {
			add(&files, isFile, dir.Files[i].Digest)
		}
	}
	if err := c.Upload(ctx, src, files); err != nil {
		return err
	}
	return c.Upload(ctx, src, dirs) // after what they name
}

// add adds d to list unless it is there.
func add(list *[]action.Digest, there map[action.Digest]bool, d action.Digest) {
	if !there[d] {
		there[d] = true
		*list = append(*list, d)
	}
}
