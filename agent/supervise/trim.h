// SPDX-License-Identifier: Apache-2.0
//
// A supervisor waits, for days perhaps, beside hundreds of others: what only its start needed is
// given back.
#pragma once

void supervisor_trim(void);
