//go:build !linux

package service

import "errors"

// Undumpable is for Linux only.
func Undumpable() error { return errors.ErrUnsupported }
