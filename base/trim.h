// SPDX-License-Identifier: Apache-2.0
//
// Of a process that waits, for days perhaps, beside many others: what only its work before needed
// is given back.
#pragma once

// Free memory and the pages of machine code, which come back from the page cache when they are
// needed. Other threads may go on meanwhile.
void memory_trim(void);
