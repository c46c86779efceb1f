/* A bundled model in C. Written by edgekit; see edgekit_model.h for how it is used.
 *
 * In this order: memory and errors, text, files, SHA-256; JSON; what a tokenizer does; what is done to images; what
 * runs the network; the model; the self-test.
 */
#ifdef _MSC_VER
#define _CRT_SECURE_NO_WARNINGS
#endif
#include "edgekit_model.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

