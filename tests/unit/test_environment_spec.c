// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/request.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define HEX    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HASH   "--hash=sha256:" HEX
#define MD5    "d41d8cd98f00b204e9800998ecf8427e"
#define MARKER " ; python_version < \"3.12\""

typedef const char *spec_fn(struct arena *a, const char *text, struct error *err);

struct form {
	const char *text, *expected;
};

// Each becomes its canonical form, and that one itself.
static void expect_forms(spec_fn *spec, const struct form *forms, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *got = spec(&a, forms[i].text, &err);
		if (!got)
			fail_msg("%s: %s", forms[i].text, err.text);
		if (!streq(got, forms[i].expected))
			fail_msg("%s: got %s, not %s", forms[i].text, got, forms[i].expected);
		const char *again = spec(&a, got, &err);
		if (!again || !streq(again, got))
			fail_msg("%s becomes %s", got, again ? again : err.text);
	}
}

static void expect_refusals(spec_fn *spec, const struct form *forms, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cleanup_arena struct arena a = {0};
		struct error err = {0};
		const char *got = spec(&a, forms[i].text, &err);
		if (got)
			fail_msg("%s was taken for %s", forms[i].text, got);
		assert_int_equal(err.kind, ERROR_INVALID);
		if (!strstr(err.text, forms[i].expected))
			fail_msg("%s: %s\nlacks: %s", forms[i].text, err.text, forms[i].expected);
	}
}

static void conda_has_one_spelling(void **state)
{
	static const struct form forms[] = {
		{"numpy", "numpy"},
		{"  NumPy \t", "numpy"},
		{"numpy # for speed", "numpy"},
		{"numpy *", "numpy"},
		{"numpy=*", "numpy"},
		{"_libgcc_mutex", "_libgcc_mutex"},
		{"numpy=1.26", "numpy=1.26"},
		{"numpy = 1.26", "numpy=1.26"},
		{"numpy=1.26.*", "numpy=1.26"},
		{"numpy=1.26*", "numpy=1.26"},
		{"numpy 1.26.*", "numpy=1.26"},
		{"numpy==1.26.4", "numpy==1.26.4"},
		{"numpy == 1.26.4", "numpy==1.26.4"},
		{"numpy 1.26.4", "numpy==1.26.4"},
		{"numpy>=1.20,<2", "numpy<2,>=1.20"},
		{"NumPy >=1.20 , <2", "numpy<2,>=1.20"},
		{"numpy <2,>=1.20,<2", "numpy<2,>=1.20"},
		{"numpy>=1.20.*", "numpy>=1.20"},
		{"numpy!=1.20.*", "numpy!=1.20.*"},
		{"numpy!=1.20", "numpy!=1.20"},
		{"numpy~=1.20", "numpy~=1.20"},
		{"numpy 1.20|1.26.*", "numpy=1.26|==1.20"},
		{"numpy >=2|<1,>0.5", "numpy<1,>0.5|>=2"},
		{"numpy >=1|*", "numpy"},
		{"x 1!2.0", "x==1!2.0"},
		{"x!=1!2.0", "x!=1!2.0"},
		{"numpy=1.26=py311h*_0", "numpy=1.26=py311h*_0"},
		{"numpy=1.26.*=py311*", "numpy=1.26.*=py311*"},
		{"numpy==1.26.4=py311_0", "numpy==1.26.4=py311_0"},
		{"numpy 1.26.4 py311_0", "numpy==1.26.4=py311_0"},
		{"numpy 1.26.4 *", "numpy==1.26.4"},
		{"blas=*=openblas", "blas=*=openblas"},
		{"blas * openblas", "blas=*=openblas"},
		{"blas[build=openblas]", "blas=*=openblas"},
		{"numpy>=1.20,<2 py3*", "numpy[build='py3*',version='<2,>=1.20']"},
		{"numpy>=1.20,<2=py3*", "numpy[build='py3*',version='<2,>=1.20']"},
		{"numpy[version='>=1']", "numpy>=1"},
		{"numpy[version=\">=1,<2\"]", "numpy<2,>=1"},
		{"numpy[version='=1.26']", "numpy=1.26"},
		{"numpy[version=1.26]", "numpy==1.26"},
		{"numpy[ version = '1.26' , build = 'py*' ]", "numpy==1.26=py*"},
		{"numpy[md5=" MD5 ", build_number='3']", "numpy[build_number='3',md5='" MD5 "']"},
		{"numpy[subdir=linux-64]", "numpy[subdir='linux-64']"},
		{"conda-forge::numpy", "conda-forge::numpy"},
		{"conda-forge::NumPy = 1.26", "conda-forge::numpy=1.26"},
		{"conda-forge/linux-64::numpy", "conda-forge/linux-64::numpy"},
		{"numpy[channel=conda-forge,subdir=noarch]", "conda-forge/noarch::numpy"},
		{"conda-forge/label/dev::numpy", "conda-forge/label/dev::numpy"},
		{"HTTPS://Host:8080/Channel/::numpy>1", "https://host:8080/Channel::numpy>1"},
		{"https://[::1]:80/c::numpy[version='>1']", "https://[::1]:80/c::numpy>1"},
		{"::numpy", "numpy"},
	};
	(void)state;
	expect_forms(environment_conda_spec, forms, array_size(forms));
}

static void conda_refuses_with_a_remedy(void **state)
{
	static const struct form forms[] = {
		{"", "it is empty"},
		{"  # nothing", "it is empty"},
		{">=1.0", "the package's name is missing"},
		{"-c", "\"-c\" is no package name"},
		{"--help", "is no package name"},
		{"./x.conda", "no files and addresses"},
		{"https://host/x-1.0-0.conda", "name the package, and its channel in front"},
		{"numpy[url=https://x]", "name the package, and its channel in front"},
		{"n\xc3\xbcmpy", "none of ASCII's printable ones"},
		{"numpy\x01", "none of ASCII's printable ones"},
		{"numpy \f 1", "none of ASCII's printable ones"},
		{"numpy\nscipy", "write one package to an entry"},
		{"numpy=>1", "\"=>1\" is no operator"},
		{"numpy>=", "the version behind \">=\" is missing"},
		{"numpy>=1,", "the version behind \",\" is missing"},
		{"numpy >=1.20 <2", "put ',' (and) or '|' (or) before \"<2\""},
		{"numpy (>=1|<0.5)", "parentheses are not supported"},
		{"numpy==1.26.*", "write =1.26 for any 1.26"},
		{"numpy=1.*.3", "'*' stands at the end"},
		{"numpy<*", "\"<*\" means nothing"},
		{"numpy^1", "\"numpy^1\" is no package name"},
		{"numpy=1.2$", "\"1.2$\" is no version"},
		{"numpy 1.2 py/3", "\"py/3\" is no build string"},
		{"numpy 1.2 py3 x", "\"py3 x\" is no build string"},
		{"numpy=1[version=2]", "version is given twice"},
		{"numpy=1=b[build=c]", "build is given twice"},
		{"numpy[version=1,version=2]", "version is given twice"},
		{"a::numpy[channel=b]", "channel is given twice"},
		{"numpy[version=1", "']' is missing"},
		{"numpy[version='1]", "the quote behind \"version=\" is not closed"},
		{"numpy[version]", "expected key='value'"},
		{"numpy[verzion=1]", "unknown key \"verzion\""},
		{"numpy[md5='a' b]", "expected ',' behind the value of \"md5\""},
		{"numpy[md5=a'b]", "holds a quote, bracket or tab"},
		{"numpy[md5=a\tb]", "holds a quote, bracket or tab"},
		{"numpy[subdir='a b']", "\"a b\" is no platform"},
		{"c::numpy[subdir='']", "\"\" is no platform"},
		{"/srv/channel::numpy", "is no channel"},
		{"-c::numpy", "is no channel"},
		{"https://h:/::numpy", "is no channel"},
		{"file:///srv/channel::numpy", "is no channel"},
		{"https://u:secret@host/c::numpy", "they belong into the node's netrc file"},
		{"https://host/t/tk-1/c::numpy", "they belong into the node's netrc file"},
	};
	(void)state;
	expect_refusals(environment_conda_spec, forms, array_size(forms));
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	assert_null(environment_conda_spec(&a, "https://u:secret@host/c::numpy", &err));
	assert_null(strstr(err.text, "secret"));
}

static void pip_has_one_spelling(void **state)
{
	static const struct form forms[] = {
		{"numpy", "numpy"},
		{"  Scikit_Learn  ", "scikit-learn"},
		{"a.-_B", "a-b"},
		{"Scikit_Learn [x] ==1.0", "scikit-learn[x]==1.0"},
		{"x[b, A_c ,b]", "x[a-c,b]"},
		{"x[]", "x"},
		{"numpy >=1.20 , <2", "numpy<2,>=1.20"},
		{"numpy (>=1.20,<2)", "numpy<2,>=1.20"},
		{"numpy==V1.0RC1", "numpy==1.0rc1"},
		{"numpy==1.26.*", "numpy==1.26.*"},
		{"numpy!=1.26.*,~=1.2", "numpy!=1.26.*,~=1.2"},
		{"x===Foo", "x===Foo"},
		{"torch==2.1.0+cu121", "torch==2.1.0+cu121"},
		{"x==1!2.0", "x==1!2.0"},
		{"x # why", "x"},
		{"x==0.whl # a version", "x==0.whl"},
		{"x;python_version<'3.12'", "x" MARKER},
		{"x>=1 ; ( python_version<'3.12' and extra == \"a\" ) or os_name not   in 'nt, "
		 "java'",
			"x>=1 ; (python_version < \"3.12\" and extra == \"a\") or os_name not in "
			"\"nt, java\""},
		{"x; 'a\"b' == os_name", "x ; 'a\"b' == os_name"},
		{"x @ https://Host/X-1.whl#sha256=" HEX, "x @ https://host/X-1.whl#sha256=" HEX},
		{"X[a]@http://h/x.tar.gz ; python_version < '3.12'",
			"x[a] @ http://h/x.tar.gz" MARKER},
		{"x @ http://h/x-1.whl", "x @ http://h/x-1.whl"},
		{"x==1 --hash sha256:" HEX, "x==1 " HASH},
		{"x==1 \\\n  --hash=sha256:" HEX " \\\n  --hash=sha256:" HEX, "x==1 " HASH},
		{"x==1;python_version<\"3.12\" " HASH, "x==1" MARKER " " HASH},
	};
	(void)state;
	expect_forms(environment_pip_requirement, forms, array_size(forms));
}

static void pip_refuses_with_a_remedy(void **state)
{
	static const struct form forms[] = {
		{"", "it is empty"},
		{"# x", "it is empty"},
		{"-e .", "editable packages cannot be used on a node"},
		{"--editable=.", "editable packages cannot be used on a node"},
		{"-r more.txt", "other files are not read"},
		{"-c c.txt", "write the versions here"},
		{"--index-url https://h", "environment.index_url"},
		{"--extra-index-url=https://h", "environment.extra_index_urls"},
		{"--pre", "environment.pre"},
		{"--only-binary :all:", "environment.only_binary"},
		{"--find-links /x", "name @ https://"},
		{"--trusted-host h", "the node's matter"},
		{"--no-deps", "options of pip are not supported"},
		{".", "files of this machine"},
		{"./x", "files of this machine"},
		{"/x/y-1.whl", "files of this machine"},
		{"lib/x", "files of this machine"},
		{"x-1.0-py3-none-any.whl", "files of this machine"},
		{"x-1.0-py3-none-any.whl # ours", "files of this machine"},
		{"https://h/x.whl", "write the package's name before its address"},
		{"git+https://h/x.git", "write the package's name before its address"},
		{"x @ git+https://h/x.git@main", "name an archive of the commit"},
		{"x @ file:///tmp/x.whl", "must begin with http:// or https://"},
		{"x @ ", "must begin with http:// or https://"},
		{"x @ https://u:secret@h/x.whl", "they belong into the node's netrc file"},
		{"x @ https://h/a\\b", "holds a quote"},
		{"numpy=1.26", "pip's operator is \"==\""},
		{"numpy 1.26", "an operator is missing before \"1.26\""},
		{"numpy scipy", "expected a version"},
		{"numpy\nscipy", "expected a version"},
		{"numpy \v", "none of ASCII's printable ones"},
		{"numpy-", "expected a version"},
		{"numpy>=", "the version behind \">=\" is missing"},
		{"numpy>=abc", "\"abc\" is no version"},
		{"numpy>=1.*", "goes with == and != only"},
		{"numpy==1.*.2", "stands at the end"},
		{"numpy>=1 <2", "only --hash"},
		{"numpy (>=1", "')' is missing"},
		{"x[a", "expected ',' or ']'"},
		{"x[a b]", "expected ',' or ']'"},
		{"x[;]", "expected the name of an extra"},
		{"x;", "a value is missing"},
		{"x; python < '3'", "\"python\" is no variable"},
		{"x; python_version < 3.8", "\"3\" is no variable of a marker (texts stand in"},
		{"x; python_version '3'", "expected a comparison"},
		{"x; python_version < '3", "is not closed"},
		{"x; (os_name == 'a'", "')' is missing"},
		{"x; os_name == 'a' b", "does not belong behind the marker"},
		{"x==1 --hash=md5:" MD5, "is no hash"},
		{"x==1 --hash=sha256:12", "is no hash"},
		{"x==1 --hash", "only --hash"},
		{"x==1 --config-settings=a", "only --hash"},
		{"x\xc3\xbc", "none of ASCII's printable ones"},
	};
	(void)state;
	expect_refusals(environment_pip_requirement, forms, array_size(forms));
}

static void bounds_what_it_reads(void **state)
{
	cleanup_arena struct arena a = {0};
	struct error err = {0};
	cleanup_buffer struct buffer b = {0};
	(void)state;
	buffer_puts(&b, "x;");
	for (int i = 0; i < 40; i++)
		buffer_putc(&b, '(');
	assert_null(environment_pip_requirement(&a, b.data, &err));
	assert_non_null(strstr(err.text, "deeper than 32"));
	buffer_clear(&b);
	buffer_puts(&b, "x>=1");
	for (int i = 0; i < 400; i++)
		buffer_printf(&b, ",!=%d", i);
	assert_null(environment_pip_requirement(&a, b.data, &err));
	assert_non_null(strstr(err.text, "more than 400 versions"));
	b.data[400] = '\0';
	assert_null(environment_conda_spec(&a, b.data, &err));
	assert_non_null(strstr(err.text, "more than 64 versions"));
	b.data[400] = ',';
	for (int i = 0; i < 70000; i++)
		buffer_putc(&b, '1');
	assert_null(environment_pip_requirement(&a, b.data, &err));
	assert_non_null(strstr(err.text, "longer than 65536 bytes"));
	assert_null(environment_conda_spec(&a, b.data, &err));
	assert_non_null(strstr(err.text, "longer than 2048 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conda_has_one_spelling),
		cmocka_unit_test(conda_refuses_with_a_remedy),
		cmocka_unit_test(pip_has_one_spelling),
		cmocka_unit_test(pip_refuses_with_a_remedy),
		cmocka_unit_test(bounds_what_it_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
