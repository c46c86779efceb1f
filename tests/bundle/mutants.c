/* The self-test of each folder that is named on a line of standard input: its place in the list, and how many problems.
 * Compiled with edgekit_model.c and with checks of memory and of what C leaves undefined: the first one ends the program. */
#include <stdio.h>
#include <string.h>

#include "edgekit_model.h"

int main(void) {
    char folder[4096];
    for (int number = 0; fgets(folder, sizeof folder, stdin) != NULL; number++) {
        folder[strcspn(folder, "\n")] = 0;
        printf("%d ", number);
        fflush(stdout);
        printf("%d\n", edgekit_self_test(folder, NULL, NULL));
        fflush(stdout);
    }
    return 0;
}
