// SPDX-License-Identifier: Apache-2.0
//
// What a layer says about directories that its archive never named, but that had to be made for
// what lies in them: root's, mode 0755, time 0. Over a layer that has an entry for the directory
// they must not count, and what is below is not known when a layer is made; so it is written down
// and acted upon when layers are put together (oci/runtime/parents.h).
//
// Extended attributes, value "y", behind "trusted." or, in the unprivileged directory form,
// "user.". overlayfs hides all names that begin with "overlay." there, and the tar reader drops
// them, so an archive cannot set them.
#pragma once

// The directory had no entry of its own.
#define LAYER_MARK_IMPLICIT "overlay.stoker.implicit"
// On the root: a directory below it may have that mark. (The root itself, which most archives do
// not name, is not meant.)
#define LAYER_MARK_BELOW  "overlay.stoker.below"
#define LAYER_MARK_OPAQUE "overlay.opaque"
// The directory holds whiteouts. Without it overlayfs lists a directory that only one layer has as
// it stands on the disk, and the whiteouts with it: names that cannot be opened. Its value is
// empty.
#define LAYER_MARK_WHITEOUTS "overlay.origin"
