//go:build !linux

package service_test

func undumpable() error { return nil }
