// SPDX-License-Identifier: Apache-2.0
//
// What `stoker image mount` leaves: a mount and a pin (oci/store/pin.h).
#pragma once

#include "oci/store/store.h"

// Forget pins whose mount is gone.
void image_mount_sweep(struct store *s);
