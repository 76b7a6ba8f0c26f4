// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/proxy_links_internal.h"

#include <stdio.h>
#include <string.h>

int package_links_find(
	enum package_document kind, const char *text, size_t size, package_link_fn *fn, void *data)
{
	return kind == PACKAGE_HTML ? package_links_html(text, size, fn, data)
				    : package_links_json(text, size, fn, data);
}

bool package_link_hash(const char *text, size_t size, char hex[65])
{
	hex[0] = '\0';
	if (size < 64)
		return false;
	for (size_t i = 0; i < 64; i++) {
		char c = text[i];
		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
			hex[0] = '\0';
			return false;
		}
		hex[i] = c;
	}
	hex[64] = '\0';
	return true;
}

bool package_link_plain(const char *url, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)url[i] < 0x20 || url[i] == 0x7f)
			return false;
	return size > 0 && size < PACKAGE_LINK_MAX;
}

void package_link_write(struct buffer *out, enum package_document kind, const char *url)
{
	for (const char *p = url; *p; p++) {
		const char *html = *p == '&'	? "&amp;"
				   : *p == '"'	? "&quot;"
				   : *p == '<'	? "&lt;"
				   : *p == '>'	? "&gt;"
				   : *p == '\'' ? "&#39;"
				   // A value may stand without quotes.
				   : *p == ' ' ? "%20"
					       : NULL;
		if (kind == PACKAGE_HTML && html)
			buffer_puts(out, html);
		else if (kind == PACKAGE_JSON && (*p == '"' || *p == '\\'))
			buffer_printf(out, "\\%c", *p);
		else if ((unsigned char)*p < 0x20)
			buffer_printf(out, "%%%02X", (unsigned char)*p);
		else
			buffer_putc(out, *p);
	}
}
