// SPDX-License-Identifier: Apache-2.0
#include "agent/data/failure.h"

const char *data_failure_name(enum data_failure f)
{
	static const char *const names[DATA_FAILURES] = {
		[DATA_OK] = "DataOk",
		[DATA_NOT_FOUND] = "DataNotFound",
		[DATA_FORBIDDEN] = "DataForbidden",
		[DATA_AUTHENTICATION] = "DataAuthentication",
		[DATA_CHECKSUM] = "DataChecksum",
		[DATA_CHANGED] = "DataChanged",
		[DATA_TIMEOUT] = "DataTimeout",
		[DATA_STALLED] = "DataStalled",
		[DATA_HELPER_DIED] = "DataHelperDied",
		[DATA_NO_SPACE] = "DataNoSpace",
		[DATA_TOO_LARGE] = "DataTooLarge",
		[DATA_UNSUPPORTED] = "DataUnsupported",
		[DATA_POLICY] = "DataPolicy",
		[DATA_ARCHIVE] = "DataArchive",
		[DATA_NETWORK] = "DataNetwork",
		[DATA_FAILED] = "DataFailed",
	};
	return names[f];
}

bool data_failure_is_passing(enum data_failure f)
{
	return f == DATA_TIMEOUT || f == DATA_STALLED || f == DATA_HELPER_DIED ||
	       f == DATA_NETWORK || f == DATA_CHANGED;
}
