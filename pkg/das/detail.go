package das

// Detail is what is known of an event and has no place among Aurora's fields.
type Detail struct {
	// N is the event's number.
	N uint64
	// EffectiveUserName is the role in force, where SET ROLE or SET SESSION
	// AUTHORIZATION made it another than dbUserName.
	EffectiveUserName string
}

// Append appends d as JSON. It is no item of the chain.
func (d *Detail) Append(dst []byte) []byte {
	dst = append(dst, `{"n":`...)
	dst = appendUint(dst, d.N)
	dst = append(dst, `,"effectiveUserName":`...)
	dst = AppendString(dst, d.EffectiveUserName)
	return append(dst, '}')
}
