// SPDX-License-Identifier: Apache-2.0

#include <linux/module.h>

int vmtest_base_answer(void);

int vmtest_base_answer(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(vmtest_base_answer);

static int __init vmtest_base_init(void)
{
	pr_info("vmtest_base: here\n");
	return 0;
}
module_init(vmtest_base_init);

static void __exit vmtest_base_exit(void)
{
	pr_info("vmtest_base: gone\n");
}
module_exit(vmtest_base_exit);

MODULE_DESCRIPTION("a module that another one needs");
MODULE_VERSION("1.0");
MODULE_LICENSE("GPL");
