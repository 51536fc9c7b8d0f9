package render

import (
	"github.com/weir-das/weir/pkg/das"
	activityv1 "github.com/weir-das/weir/proto/gen/weir/activity/v1"
)

// className is Aurora's name of a class. Logins are MISC, as in its samples.
func className(kind activityv1.Kind, class activityv1.Class) string {
	if kind == activityv1.Kind_KIND_CONNECT || kind == activityv1.Kind_KIND_DISCONNECT {
		return "MISC"
	}
	switch class {
	case activityv1.Class_CLASS_READ:
		return "READ"
	case activityv1.Class_CLASS_WRITE:
		return "WRITE"
	case activityv1.Class_CLASS_FUNCTION:
		return "FUNCTION"
	case activityv1.Class_CLASS_ROLE:
		return "ROLE"
	case activityv1.Class_CLASS_DDL:
		return "DDL"
	default:
		return "MISC"
	}
}

// objectTypeName is Aurora's name of a kind of object. One that this build does
// not know is UNKNOWN to consumers too.
func objectTypeName(kind activityv1.ObjectType) das.Nullable[string] {
	switch kind {
	case activityv1.ObjectType_OBJECT_TYPE_UNSPECIFIED:
		return das.Nullable[string]{}
	case activityv1.ObjectType_OBJECT_TYPE_TABLE:
		return das.Some("TABLE")
	case activityv1.ObjectType_OBJECT_TYPE_INDEX:
		return das.Some("INDEX")
	case activityv1.ObjectType_OBJECT_TYPE_SEQUENCE:
		return das.Some("SEQUENCE")
	case activityv1.ObjectType_OBJECT_TYPE_TOAST_TABLE:
		return das.Some("TOAST TABLE")
	case activityv1.ObjectType_OBJECT_TYPE_VIEW:
		return das.Some("VIEW")
	case activityv1.ObjectType_OBJECT_TYPE_MATERIALIZED_VIEW:
		return das.Some("MATERIALIZED VIEW")
	case activityv1.ObjectType_OBJECT_TYPE_COMPOSITE_TYPE:
		return das.Some("COMPOSITE TYPE")
	case activityv1.ObjectType_OBJECT_TYPE_FOREIGN_TABLE:
		return das.Some("FOREIGN TABLE")
	case activityv1.ObjectType_OBJECT_TYPE_FUNCTION:
		return das.Some("FUNCTION")
	default:
		return das.Some("UNKNOWN")
	}
}
