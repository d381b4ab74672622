/* SPDX-License-Identifier: Apache-2.0 */
/* Installed set-uid root: says whom it became, for the cases of new privileges. */
#include <stdio.h>
#include <unistd.h>

int main(void) { return printf("effective uid %d\n", (int)geteuid()) < 0; }
