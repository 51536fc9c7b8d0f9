package events

// Decode reads what is kept of an event.
var Decode = decode
