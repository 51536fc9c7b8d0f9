package rpc

// DialWith is Dial with further options, for tests that bring their own network or name resolution.
var DialWith = dial
