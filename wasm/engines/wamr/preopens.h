/* SPDX-License-Identifier: Apache-2.0 */
/* Preopened directories by descriptor. WAMR opens them by path; the two functions through which it does
 * are wrapped at link time (-Wl,--wrap), so that it gets duplicates of the host's descriptors instead:
 * no path is resolved twice, and a name with "::" in it means itself. */
#ifndef AMPHORA_WAMR_PREOPENS_H_
#define AMPHORA_WAMR_PREOPENS_H_

#include "amphora/engine.h"

/* Errors name the preopen. Read-only ones are refused: WAMR has no rights for a whole tree. */
int check_preopens(const amphora_guest* guest, amphora_error* error);

/* The list of guest names to hand to WAMR, in the order in which it will ask for them. Between the two
 * calls the wrapped functions answer from `guest`, and nowhere else. */
const char** begin_preopens(const amphora_guest* guest);
void end_preopens(const char** names);

#endif /* AMPHORA_WAMR_PREOPENS_H_ */
