/*
 * params.c: bind values as text; see params.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "params.h"
#include "weir.h"

#define FIELD_PARAMETERS 11
#define FIELD_PARAMETERS_OMITTED 17
#define FIELD_IS_NULL 1
#define FIELD_VALUE 2

/*
 * The text form of a value can be many times its size. Beyond this many bytes
 * only types whose text needs no conversion are shown.
 */
#define CONVERSION_MAX (256 * 1024)

static MemoryContext output_context;

/* How a type's values become text. */
typedef struct type_output {
	Oid type;
	Oid function; /* InvalidOid: not one to call */
	bool varlena;
} type_output;

/*
 * Built-in types do not change, so what is known of them stays. Direct-mapped.
 */
#define TYPES 64
static type_output known[TYPES];

/*
 * Output functions of the server that call those of their elements, which a
 * user may have written.
 */
static bool
is_container(Oid function)
{
	switch (function) {
		case F_ARRAY_OUT:
		case F_ANYARRAY_OUT:
		case F_RECORD_OUT:
		case F_RANGE_OUT:
#if PG_VERSION_NUM >= 140000
		case F_MULTIRANGE_OUT:
#endif
			return true;
		default:
			return false;
	}
}

static type_output
find_output(Oid type)
{
	type_output *slot = &known[type % TYPES];
	type_output found;

	if (slot->type == type)
		return *slot;
	found.type = type;
	getTypeOutputInfo(type, &found.function, &found.varlena);
	/* An array, range or row of a type that is not built in may hide anything; a built-in array or range cannot. */
	if (found.function >= FirstNormalObjectId ||
		(is_container(found.function) &&
		 (type >= FirstNormalObjectId || type == RECORDOID || type == RECORDARRAYOID || type == ANYARRAYOID)))
		found.function = InvalidOid;
	if (type < FirstNormalObjectId)
		*slot = found;
	return found;
}

/* put_value writes one Parameter from its text. */
static void
put_value(weir_buffer *b, const char *text, size_t length)
{
	weir_slice whole = {text, length};
	weir_secrets found;
	weir_buffer value;
	uint8 space[512];

	weir_buffer_init(&value, space, sizeof space);
	weir_put_text(&value, FIELD_VALUE, whole, weir_secrets_in(whole, WEIR_CONTENT, &found), WEIR_VALUE_LIMIT);
	weir_put_bytes(b, FIELD_PARAMETERS, value.data, value.length);
	weir_buffer_reset(&value);
}

static void
put_placeholder(weir_buffer *b, Oid type)
{
	char text[NAMEDATALEN + 8];
	char *name = NULL;
	int n;

	if (type < FirstNormalObjectId || get_typisdefined(type))
		name = format_type_be(type);
	n = snprintf(text, sizeof text, "<%s>", name ? name : "unknown");
	put_value(b, text, Min(n, (int) sizeof text - 1));
}

/* put_varlena writes a value of varying length. Returns false where its output function must be called. */
static bool
put_varlena(weir_buffer *b, Datum value, Oid type, Oid function)
{
	struct varlena *raw = (struct varlena *) DatumGetPointer(value);
	Size size;

	if (VARATT_IS_EXTERNAL_EXPANDED(raw))
		return false;
	size = toast_raw_datum_size(value);
	if (function == F_TEXTOUT || function == F_VARCHAROUT || function == F_BPCHAROUT) {
		struct varlena *whole = pg_detoast_datum_packed(raw);

		put_value(b, VARDATA_ANY(whole), VARSIZE_ANY_EXHDR(whole));
		return true;
	}
	if (size > CONVERSION_MAX) {
		put_placeholder(b, type);
		return true;
	}
	return false;
}

static void
put_param(weir_buffer *b, const ParamExternData *param)
{
	type_output output;
	char number[32];

	if (param->isnull || !OidIsValid(param->ptype)) {
		const uint8 null[] = {FIELD_IS_NULL << 3, 1};

		weir_put_bytes(b, FIELD_PARAMETERS, null, sizeof null);
		return;
	}
	switch (param->ptype) {
		case INT2OID:
			pg_ltoa(DatumGetInt16(param->value), number);
			put_value(b, number, strlen(number));
			return;
		case INT4OID:
			pg_ltoa(DatumGetInt32(param->value), number);
			put_value(b, number, strlen(number));
			return;
		case INT8OID:
			pg_lltoa(DatumGetInt64(param->value), number);
			put_value(b, number, strlen(number));
			return;
		case UNKNOWNOID:
			put_value(b, DatumGetCString(param->value), strlen(DatumGetCString(param->value)));
			return;
		default:
			break;
	}
	output = find_output(param->ptype);
	if (!OidIsValid(output.function))
		put_placeholder(b, param->ptype);
	else if (!output.varlena || !put_varlena(b, param->value, param->ptype, output.function)) {
		char *text = OidOutputFunctionCall(output.function, param->value);

		put_value(b, text, strlen(text));
	}
}

/* names_a_secret says whether a bind value is the name of a setting that is secret. */
static bool
names_a_secret(ParamListInfo params, uint32 number)
{
	const ParamExternData *param;

	if (number < 1 || number > (uint32) params->numParams)
		return false;
	param = &params->params[number - 1];
	if (param->isnull)
		return false;
	if (param->ptype == UNKNOWNOID) {
		const char *name = DatumGetCString(param->value);

		return weir_is_secret_name(name, strlen(name));
	}
	if (param->ptype == TEXTOID || param->ptype == VARCHAROID) {
		struct varlena *name = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(param->value));

		return weir_is_secret_name(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
	}
	return false;
}

static bool
is_secret(ParamListInfo params, uint32 number, const weir_secrets *hidden)
{
	if (!hidden)
		return false;
	if (weir_secret_param(hidden, number))
		return true;
	for (size_t i = 0; i < hidden->named; i++)
		if (hidden->pair[i].value == number && names_a_secret(params, hidden->pair[i].name))
			return true;
	return false;
}

void
weir_put_params(weir_buffer *b, ParamListInfo params, weir_slice text, weir_secrecy secrecy, size_t limit)
{
	size_t start = b->length;
	weir_secrets found;
	const weir_secrets *hidden;
	MemoryContext old;
	int omitted = 0;

	if (!params || params->numParams == 0 || params->paramFetch)
		return;
	hidden = weir_secrets_in(text, secrecy, &found);
	if (!output_context)
		output_context = AllocSetContextCreate(TopMemoryContext, "weir bind values", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(output_context);
	for (int i = 0; i < params->numParams; i++) {
		size_t before = b->length;

		if (omitted) {
			omitted++;
			continue;
		}
		if (is_secret(params, i + 1, hidden) && !params->params[i].isnull)
			put_value(b, WEIR_REDACTED, strlen(WEIR_REDACTED));
		else
			put_param(b, &params->params[i]);
		if (b->length - start > limit || b->short_of_memory) {
			b->length = before;
			omitted++;
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(output_context);
	weir_put_uint(b, FIELD_PARAMETERS_OMITTED, omitted);
}
