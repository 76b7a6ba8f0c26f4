// SPDX-License-Identifier: Apache-2.0
//
// Which process was that? A process id alone is another's soon after its owner has ended; with the
// time of its start (proc_pid_stat(5), field 22) and the boot it belongs to it is unique.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { BOOT_ID_SIZE = 37 };

// Of this boot: a UUID; "" where /proc does not tell.
void boot_id_get(char id[BOOT_ID_SIZE]);
// In clock ticks since the boot; 0: there is no such process.
uint64_t process_start_time(pid_t pid);
// A descriptor of the process (pidfd_open(2)) if it is still the one that started then, else -1.
int process_find(pid_t pid, uint64_t start_time);
