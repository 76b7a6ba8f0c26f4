// SPDX-License-Identifier: Apache-2.0
//
// Names of kinds and devices, by the section "Kind" of the specification.
#include "base/text.h"
#include "oci/runtime/cdi_internal.h"

#include <ctype.h>

enum { VENDOR_MAX = 253, CLASS_MAX = 63, UNIT_MAX = 128 };

static const char alphanumeric[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

static bool is_alphanumeric(char c)
{
	return c && strchr(alphanumeric, c);
}

// Letters, digits and `between`, a letter or digit at both ends.
static bool valid(const char *s, size_t n, size_t most, const char *between)
{
	if (!n || n > most || !is_alphanumeric(s[0]) || !is_alphanumeric(s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alphanumeric(s[i]) && !(s[i] && strchr(between, s[i])))
			return false;
	return true;
}

bool cdi_kind_valid(const char *kind, size_t length)
{
	const char *slash = memchr(kind, '/', length);
	if (!slash)
		return false;
	size_t vendor = (size_t)(slash - kind);
	return valid(kind, vendor, VENDOR_MAX, "_-.") && !isdigit((unsigned char)*kind) &&
	       valid(slash + 1, length - vendor - 1, CLASS_MAX, "_-.");
}

bool cdi_unit_valid(const char *unit)
{
	return valid(unit, strlen(unit), UNIT_MAX, "_-.:");
}

int cdi_check_name(const char *name, struct error *err)
{
	const char *equals = strchr(name, '=');
	if (equals && cdi_kind_valid(name, (size_t)(equals - name)) && cdi_unit_valid(equals + 1))
		return 0;
	return error_set(err, ERROR_INVALID,
		"\"%.200s\" is not the name of a device: expected vendor.com/class=name, such as "
		"nvidia.com/gpu=0",
		name);
}

// The runs of digits at both; moves behind them.
static int compare_numbers(const char **a, const char **b)
{
	size_t n = 0, m = 0;
	while (**a == '0')
		++*a;
	while (**b == '0')
		++*b;
	while (isdigit((unsigned char)(*a)[n]))
		n++;
	while (isdigit((unsigned char)(*b)[m]))
		m++;
	int order = n != m ? (n < m ? -1 : 1) : strncmp(*a, *b, n);
	*a += n;
	*b += m;
	return order;
}

int cdi_name_compare(const char *a, const char *b)
{
	const char *p = a, *q = b;
	while (*p && *q) {
		if (isdigit((unsigned char)*p) && isdigit((unsigned char)*q)) {
			int order = compare_numbers(&p, &q);
			if (order)
				return order;
		} else if (*p++ != *q++) {
			return (unsigned char)p[-1] < (unsigned char)q[-1] ? -1 : 1;
		}
	}
	// "a01" and "a1" are two names: some order, always the same.
	return *p || *q ? (*p ? 1 : -1) : strcmp(a, b);
}
